use crate::layout::Word;

/// A lane's shared words and bytes, and the words of the whole region. The operations carry the ordering in their
/// names. A mapped file, a heap buffer and a model checker implement it.
///
/// `position` is any u64; its place is its low bits, at whole words. Headers
/// and tickets are read and written through one address each; payloads may run over the
/// end of the ring and continue at its start.
pub trait Memory {
    /// Loads a control word, Relaxed.
    fn load(&self, word: Word) -> u64;
    /// Loads a control word, Acquire.
    fn load_acquire(&self, word: Word) -> u64;
    /// Stores a control word, Relaxed.
    fn store(&self, word: Word, value: u64);
    /// Stores a control word, Release.
    fn store_release(&self, word: Word, value: u64);
    /// Replaces a control word if it is `current`, AcqRel; true if it was.
    fn replace(&self, word: Word, current: u64, new: u64) -> bool;
    /// Adds to a control word, Release; what it was before.
    fn add(&self, word: Word, value: u64) -> u64;

    /// Loads a header word, Acquire.
    fn header_acquire(&self, position: u64) -> u64;
    /// Loads a header word or a ticket, Relaxed; Acquire does as well.
    fn header(&self, position: u64) -> u64 {
        self.header_acquire(position)
    }
    /// Stores a header word or a ticket, Relaxed.
    fn store_header(&self, position: u64, value: u64);
    /// Stores a header word, Release.
    fn store_header_release(&self, position: u64, value: u64);

    /// Copies payload bytes in. The other side may read them at any time.
    fn write(&self, position: u64, bytes: &[u8]);
    /// Copies payload bytes out. The other side may change them meanwhile:
    /// the result is then some mixture, never anything worse.
    fn read(&self, position: u64, bytes: &mut [u8]);

    /// Says that the bytes at a position will be written soon: a hint.
    #[inline(always)]
    fn prepare(&self, _position: u64) {}

    /// Keeps the stores before it before the stores after it in the program
    /// that runs, so that a kill between them leaves what the source says. It
    /// orders nothing between processors and costs no instruction.
    fn keep_program_order(&self);
}

impl<M: Memory> Memory for &M {
    fn load(&self, word: Word) -> u64 {
        (**self).load(word)
    }
    fn load_acquire(&self, word: Word) -> u64 {
        (**self).load_acquire(word)
    }
    fn store(&self, word: Word, value: u64) {
        (**self).store(word, value)
    }
    fn store_release(&self, word: Word, value: u64) {
        (**self).store_release(word, value)
    }
    fn replace(&self, word: Word, current: u64, new: u64) -> bool {
        (**self).replace(word, current, new)
    }
    fn add(&self, word: Word, value: u64) -> u64 {
        (**self).add(word, value)
    }
    fn header_acquire(&self, position: u64) -> u64 {
        (**self).header_acquire(position)
    }
    fn header(&self, position: u64) -> u64 {
        (**self).header(position)
    }
    fn store_header(&self, position: u64, value: u64) {
        (**self).store_header(position, value)
    }
    fn store_header_release(&self, position: u64, value: u64) {
        (**self).store_header_release(position, value)
    }
    fn write(&self, position: u64, bytes: &[u8]) {
        (**self).write(position, bytes)
    }
    fn read(&self, position: u64, bytes: &mut [u8]) {
        (**self).read(position, bytes)
    }
    fn prepare(&self, position: u64) {
        (**self).prepare(position)
    }
    fn keep_program_order(&self) {
        (**self).keep_program_order()
    }
}
