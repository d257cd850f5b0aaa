//! A named place in a block of bytes.

/// A field: its name in FORMAT.md, its first byte and its length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The name that FORMAT.md uses.
    pub name: &'static str,
    /// Bytes from the start of the block.
    pub offset: usize,
    /// Bytes.
    pub len: usize,
}

impl Field {
    pub(crate) const fn new(name: &'static str, offset: usize, len: usize) -> Self {
        Field { name, offset, len }
    }

    /// The byte after the field.
    pub const fn end(&self) -> usize {
        self.offset + self.len
    }

    /// This field's bytes in `block`.
    pub fn bytes<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        &block[self.offset..self.end()]
    }

    pub(crate) fn u32(&self, block: &[u8]) -> u32 {
        u32::from_le_bytes(self.bytes(block).try_into().expect("a field of 4 bytes"))
    }

    /// This field's value in `block`, for a field of 8 bytes.
    pub fn u64(&self, block: &[u8]) -> u64 {
        u64::from_le_bytes(self.bytes(block).try_into().expect("a field of 8 bytes"))
    }

    pub(crate) fn put(&self, block: &mut [u8], value: &[u8]) {
        block[self.offset..self.end()].copy_from_slice(value);
    }
}

/// True if the fields ascend without overlap, each inside `block_len` bytes
/// and each integer aligned to its own width. Used in compile-time asserts.
pub(crate) const fn well_placed(fields: &[Field], block_len: usize) -> bool {
    let mut free_from = 0;
    let mut i = 0;
    while i < fields.len() {
        let Field { offset, len, .. } = fields[i];
        let width = if len < 8 { len } else { 8 };
        if offset < free_from || !offset.is_multiple_of(width) {
            return false;
        }
        free_from = offset + len;
        i += 1;
    }
    free_from <= block_len
}
