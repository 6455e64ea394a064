//! Values as names of folders.
//!
//! ```text
//! letters, digits, - _ .   as they are; but at the beginning only letters and digits, and no . at the end
//! any other byte           ! and two lower case hexadecimal digits
//! empty                    !
//! longer than 150 bytes    the first 84 at most | !! | SHA-256 of the value, 64 hexadecimal digits
//! ```
//!
//! Two values never share a name: `!` comes from nowhere but an escape, which two digits follow, so that `!!` marks the
//! long form. Nothing of it is special to a file system, a shell's path or an object store, and
//! [`object_store::path::Path`] leaves every character as it is.

use ring::digest;

/// The longest name that [`encode`] gives. Two and what a template writes around them fit in the 255 bytes that file
/// systems allow.
pub(super) const MAX_ENCODED_BYTES: usize = LONG_MARK_AT + LONG_MARK.len() + 64;

const LONG_MARK: &str = "!!";
/// How much of a long value can still be read.
const LONG_MARK_AT: usize = 84;

/// The name of a folder that stands for `value` and for no other value.
pub fn encode(value: &str) -> String {
    let mut name = String::with_capacity(value.len());
    let bytes = value.as_bytes();
    // The greatest length, up to LONG_MARK_AT, that does not cut an escape in two.
    let mut readable = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let plain = match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => true,
            b'-' | b'_' => at > 0,
            b'.' => at > 0 && at + 1 < bytes.len(),
            _ => false,
        };
        if plain {
            name.push(char::from(*byte));
        } else {
            name.push('!');
            push_hex(&mut name, &[*byte]);
        }
        if name.len() <= LONG_MARK_AT {
            readable = name.len();
        } else if name.len() > MAX_ENCODED_BYTES {
            name.truncate(readable);
            name.push_str(LONG_MARK);
            push_hex(&mut name, digest::digest(&digest::SHA256, bytes).as_ref());
            return name;
        }
    }
    if name.is_empty() {
        name.push('!');
    }
    name
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// The first eight bytes of the SHA-256 of `value`, as a number: stable over versions and machines.
pub(super) fn stable_hash(value: &str) -> u64 {
    let digest = digest::digest(&digest::SHA256, value.as_bytes());
    digest.as_ref().first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

#[cfg(test)]
mod tests;
