//! What a segment file is, seen with the Parquet library alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::*;
use kalamdb_store::codec::PrimaryKey;
use kalamdb_store::ids::ColumnId;
use kalamdb_store::segment::*;
use parquet::basic::{Compression, Encoding, Repetition};
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::ReadOptionsBuilder;

use crate::files::*;

const FIXTURE: &[u8] = include_bytes!("../fixtures/v1/000000000000002a.parquet");

fn open(file: &SegmentFile) -> SerializedFileReader<bytes::Bytes> {
    let options = ReadOptionsBuilder::new()
        .with_page_index()
        .with_reader_properties(ReaderProperties::builder().set_read_bloom_filter(true).build())
        .build();
    SerializedFileReader::new_with_options(file.bytes.clone(), options).unwrap()
}

#[test]
fn a_file_is_laid_out_for_reads_by_key_and_for_others() {
    let keys: Vec<_> = (0..300_000).map(|key| PrimaryKey::from_i64(key << 22)).collect();
    let (fields, batch) = messages(&keys, false);
    let mut writer = SegmentWriter::new(fields.clone(), &origin(), &WriterSettings::default()).unwrap();
    let mut most = 0;
    for at in (0..300_000).step_by(10_000) {
        writer.write(&batch.slice(at, 10_000)).unwrap();
        assert_eq!(writer.rows(), at as u64 + 10_000);
        assert!(writer.memory_bytes() >= writer.buffered_bytes());
        most = most.max(writer.buffered_bytes());
    }
    let file = writer.finish().unwrap();
    let size = file.bytes.len();
    assert!(most > size / 3 && most < size * 2, "{most} bytes were announced for a file of {size}");

    let reader = open(&file);
    let metadata = reader.metadata();
    let rows: Vec<_> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(rows, [131_072, 131_072, 300_000 - 2 * 131_072]);

    let footer = metadata.file_metadata();
    assert!(footer.created_by().unwrap().starts_with("kalamdb version "));
    let pairs: BTreeMap<_, _> =
        footer.key_value_metadata().unwrap().iter().map(|it| (&*it.key, it.value.as_deref())).collect();
    let expected = [
        ("kalamdb.format", "1"),
        ("kalamdb.max_seq", "2099994"),
        ("kalamdb.min_seq", "1"),
        ("kalamdb.namespace", "chat"),
        ("kalamdb.owner", "ana"),
        ("kalamdb.schema_version", "3"),
        ("kalamdb.table", "messages"),
    ];
    assert_eq!(pairs, expected.into_iter().map(|(key, value)| (key, Some(value))).collect());

    let columns = footer.schema().get_fields().iter().map(|column| {
        let info = column.get_basic_info();
        (column.name(), info.repetition() == Repetition::REQUIRED, info.has_id().then(|| info.id()))
    });
    let expected = [
        ("body", false, Some(1)),
        ("id", true, Some(4)),
        ("n", false, Some(7)),
        ("_seq", true, None),
        ("_updated", true, None),
    ];
    assert_eq!(columns.collect::<Vec<_>>(), expected);

    for (at, group) in metadata.row_groups().iter().enumerate() {
        let sorting = group.sorting_columns().unwrap();
        assert_eq!(
            sorting.iter().map(|column| (column.column_idx, column.descending)).collect::<Vec<_>>(),
            [(1, false)]
        );
        for (leaf, column) in group.columns().iter().enumerate() {
            let own = matches!(leaf, 1 | 3 | 4);
            assert_eq!(matches!(column.compression(), Compression::ZSTD(_)), !own);
            assert_eq!(column.bloom_filter_offset().is_some(), leaf == 1, "a bloom filter on the key alone");
            assert_eq!(column.encodings().any(|encoding| encoding == Encoding::RLE_DICTIONARY), !own);
            let pages = metadata.offset_index().unwrap()[at][leaf].page_locations();
            let firsts: Vec<_> = pages.iter().map(|page| page.first_row_index).chain([group.num_rows()]).collect();
            // Where a dictionary has grown too large, a page ends early, and the next ones not where rows were given.
            let most = if own { 8_192 } else { 8_192 + 1_024 };
            assert!(firsts.windows(2).all(|pair| pair[1] - pair[0] <= most));
            assert!(metadata.column_index().unwrap()[at][leaf].is_sorted() || leaf != 1);
        }
        let filter = reader.get_row_group(at).unwrap().get_column_bloom_filter(1).unwrap().clone();
        let present = (0..300_000_i64).filter(|key| filter.check(&(key << 22))).count();
        let there = group.num_rows() as usize;
        assert!(present >= there && present < there + 6_000, "{present} of {there}");
    }
}

#[tokio::test]
async fn files_of_format_1_stay_readable() {
    let keys: Vec<_> = (0..500).map(|key| PrimaryKey::from_str(&format!("key {:03}", key * 2))).collect();
    let (fields, batch) = messages(&keys, true);
    let mut file = file_of(&fields, &batch, &WriterSettings { row_group_rows: 200, ..small() });
    // The library may write other bytes in later versions, but what it wrote stays what it was.
    file.bytes = FIXTURE.into();
    file.checksums = block_checksums(FIXTURE);
    assert_eq!(file.checksums, [FIXTURE_CHECKSUM]);
    let world = World::in_memory();
    let reader = world.segments.open(&world.add(42, &file).await).await.unwrap();
    let rows: Vec<_> = (0..500).collect();
    assert_eq!(reader.locate(&keys).await.unwrap(), rows.iter().copied().map(Some).collect::<Vec<_>>());
    assert_eq!(reader.locate(&[PrimaryKey::from_str("key 001")]).await.unwrap(), [None]);
    let read = reader.read_rows(&rows, &[0, 1, 2, 3, 4]).await.unwrap();
    assert_eq!(read.columns(), batch.columns());
    assert_eq!(reader.key_column(), 1);
    assert_eq!(reader.position_of(ColumnId::new(6)), Some(2));
    assert_eq!(reader.position_of(ColumnId::new(1)), None);
    let names: Vec<_> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["body", "id", "n", SEQ_COLUMN, UPDATED_COLUMN]);
    let plain: ArrayRef = Arc::new(StringArray::from_iter_values(keys.iter().map(|key| key.to_str().unwrap())));
    assert_eq!(&restore_column(&plain, &arrow::datatypes::DataType::Utf8View).unwrap(), batch.column(1));
}

/// The CRC-32 of the fixture's only block.
const FIXTURE_CHECKSUM: u32 = 3_621_041_964;
