//! Names of segment files.

use crate::ids::SegmentId;

const EXTENSION: &str = ".parquet";

/// The name of a segment's file, without its folder: 16 hexadecimal digits and `.parquet`.
pub fn segment_file_name(segment: SegmentId) -> String {
    format!("{:016x}{EXTENSION}", segment.get())
}

/// The segment whose file has this path or name; `None` for other files.
pub fn segment_of_path(path: &str) -> Option<SegmentId> {
    let name = path.rsplit('/').next()?;
    let digits = name.strip_suffix(EXTENSION).filter(|digits| digits.len() == 16)?;
    let id = SegmentId::new(u64::from_str_radix(digits, 16).ok()?);
    (segment_file_name(id) == name).then_some(id)
}
