//! The first page: what a region says of itself.

use std::fmt;

use super::field::{Field, well_placed};
use super::geometry::{CONSUMERS, DATA_ALIGN, Geometry, GeometryError, HUGE_ALIGN, PAGE};
use super::record::TICKET_BYTES;

/// Bytes of the header.
pub const LEN: usize = PAGE as usize;
/// The first eight bytes of every region.
pub const MAGIC_BYTES: [u8; 8] = *b"\x89SHMRING";
/// Version of the format that this library writes: incompatible changes.
pub const MAJOR: u32 = 1;
/// Version of the format that this library writes: additions.
pub const MINOR: u32 = 0;
/// The longest schema name, in bytes.
pub const MAX_SCHEMA_NAME: usize = 64;

/// Where the unrelated crate `shmring` 0.4.1 keeps its magic, and what it is.
const OTHER_SHMRING: &[u8; 4] = b"RMHS";
const BYTE_ORDER_MARK: u32 = 0x0102_0304;

/// See [`MAGIC_BYTES`].
pub const MAGIC: Field = Field::new("magic", 0x000, 8);
/// See [`MAJOR`].
pub const FORMAT_MAJOR: Field = Field::new("format_major", 0x008, 4);
/// See [`MINOR`].
pub const FORMAT_MINOR: Field = Field::new("format_minor", 0x00C, 4);
const BYTE_ORDER: Field = Field::new("byte_order", 0x010, 4);
const HEADER_LEN: Field = Field::new("header_len", 0x014, 4);
/// Features that a program must know to touch the region at all.
pub const INCOMPATIBLE: Field = Field::new("features_incompatible", 0x018, 8);
/// Features that a program must know to change the region.
const READ_COMPATIBLE: Field = Field::new("features_read_compatible", 0x020, 8);
/// Features that a program need not know.
const COMPATIBLE: Field = Field::new("features_compatible", 0x028, 8);
const REGION_ID: Field = Field::new("region_id", 0x030, 16);
const CREATED_NS: Field = Field::new("created_ns", 0x040, 8);
/// The length that the file must have, in bytes.
pub const FILE_LEN: Field = Field::new("file_len", 0x048, 8);
const PAGE_LEN: Field = Field::new("page_len", 0x050, 4);
const DATA_ALIGN_LEN: Field = Field::new("data_align", 0x054, 4);
const LANE_COUNT: Field = Field::new("lane_count", 0x058, 4);
const CONSUMER_COUNT: Field = Field::new("consumer_count", 0x05C, 4);
const CAPACITY: Field = Field::new("capacity", 0x060, 8);
const START_POSITION: Field = Field::new("start_position", 0x068, 8);
const START_SEQUENCE: Field = Field::new("start_sequence", 0x070, 8);
const RECORD_ALIGN: Field = Field::new("record_align", 0x078, 4);
const RECORD_PREFIX: Field = Field::new("record_prefix", 0x07C, 4);
const PAYLOAD_ALIGN: Field = Field::new("payload_align", 0x080, 4);
const ORDER: Field = Field::new("order", 0x084, 4);
const CODEC_ID: Field = Field::new("codec_id", 0x088, 4);
const SECTION_COUNT: Field = Field::new("section_count", 0x08C, 4);
const FINGERPRINT: Field = Field::new("type_fingerprint", 0x090, 8);
const SCHEMA_NAME: Field = Field::new("schema_name", 0x0C0, MAX_SCHEMA_NAME);
const SECTIONS: Field = Field::new("sections", 0x100, 16 * SECTION_LEN);
const CHECK: Field = Field::new("header_crc32c", LEN - 4, 4);
const SECTION_LEN: usize = 32;

/// All fields of format 1.0, ascending. Bytes outside them are zero.
pub const FIELDS: &[Field] = &[
    MAGIC,
    FORMAT_MAJOR,
    FORMAT_MINOR,
    BYTE_ORDER,
    HEADER_LEN,
    INCOMPATIBLE,
    READ_COMPATIBLE,
    COMPATIBLE,
    REGION_ID,
    CREATED_NS,
    FILE_LEN,
    PAGE_LEN,
    DATA_ALIGN_LEN,
    LANE_COUNT,
    CONSUMER_COUNT,
    CAPACITY,
    START_POSITION,
    START_SEQUENCE,
    RECORD_ALIGN,
    RECORD_PREFIX,
    PAYLOAD_ALIGN,
    ORDER,
    CODEC_ID,
    SECTION_COUNT,
    FINGERPRINT,
    SCHEMA_NAME,
    SECTIONS,
    CHECK,
];
const _: () = assert!(well_placed(FIELDS, LEN));

/// In which order messages of different producers are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Order {
    /// First in, first out per producer.
    Fifo = 0,
    /// Linearizable across producers: if one send returned before another
    /// began, in whatever process, its message is delivered first.
    Total = 1,
}

impl Order {
    /// Bytes between a record's header word and its payload.
    pub fn record_prefix(self) -> u64 {
        match self {
            Order::Fifo => 0,
            Order::Total => TICKET_BYTES,
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::Fifo => "fifo",
            Order::Total => "total",
        })
    }
}

/// Which codec the payloads of a region are in. Fixed at create.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodecId(pub u32);

impl CodecId {
    /// Payloads are bytes that mean something to their users alone.
    pub const BYTES: CodecId = CodecId(0);
    /// serde with bincode 2, standard configuration.
    pub const BINCODE: CodecId = CodecId(1);
}

impl fmt::Display for CodecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            CodecId::BYTES => f.write_str("bytes"),
            CodecId::BINCODE => f.write_str("bincode"),
            CodecId(other) => write!(f, "codec {other}"),
        }
    }
}

/// What for a region is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To read it and change nothing.
    Look,
    /// To send and receive.
    Use,
}

/// What a region says of itself. Written at create, never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Sizes and offsets.
    pub geometry: Geometry,
    /// Random, so that two regions at one path can be told apart.
    pub region_id: [u8; 16],
    /// When it was created, in nanoseconds since 1970.
    pub created_ns: u64,
    /// The position of the first record ever.
    pub start_position: u64,
    /// The sequence of the first message ever.
    pub start_sequence: u64,
    /// Order across producers.
    pub order: Order,
    /// Which codec the payloads are in.
    pub codec: CodecId,
    /// Schema name and version, as a number: see [`crate::Schema`].
    pub type_fingerprint: u64,
    /// The schema's name, at most [`MAX_SCHEMA_NAME`] bytes without a zero byte; may be empty.
    pub schema_name: String,
}

/// Why a file is not a region that this library can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The file has no bytes.
    #[error("the file is empty, so it is not a shmring region; remove it, or choose another name")]
    Empty,
    /// The file starts with zeros.
    #[error(
        "the file holds zeros where a header should be, so it is not a shmring region; remove it, or choose another name"
    )]
    Zeros,
    /// The file does not begin like a region.
    #[error("this is not a shmring region (it begins with {found:02x?}); choose another path")]
    NotARegion {
        /// The first bytes, at most eight.
        found: Vec<u8>,
    },
    /// The file belongs to another project of the same name.
    #[error(
        "this is a ring of another project that is also called shmring \
         (magic RMHS, the registry's crate shmring 0.4); choose another path"
    )]
    OtherShmring,
    /// A format that this library does not know.
    #[error(
        "the region has format {found_major}.{found_minor}, this program knows {MAJOR}.{MINOR}; \
         use the version of shmring that made it, or remove the region and create it anew"
    )]
    Version {
        /// The region's major version.
        found_major: u32,
        /// The region's minor version.
        found_minor: u32,
    },
    /// The region needs features that this library does not have.
    #[error(
        "the region uses features that this program does not know (bits {unknown:#x}); use a newer shmring"
    )]
    Features {
        /// The unknown bits.
        unknown: u64,
    },
    /// The file is shorter or longer than its header says.
    #[error(
        "the region's file has {found} bytes, its header says {expected}: it was truncated or is a bad copy; remove it and create it anew"
    )]
    FileLen {
        /// Bytes that the header asks for.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// The header's check sum does not fit its bytes.
    #[error(
        "the region's header is damaged (check sum {found:#010x}, computed {expected:#010x}); remove it and create it anew"
    )]
    CheckSum {
        /// Computed over the bytes.
        expected: u32,
        /// As stored.
        found: u32,
    },
    /// A field has a value that format 1.0 does not allow.
    #[error("the region's header is damaged or from a newer program: {field} is {value}")]
    Field {
        /// Its name in FORMAT.md.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// The sizes contradict one another.
    #[error("the region's header is damaged: {0}")]
    Geometry(#[from] GeometryError),
}

impl Header {
    /// The page to write.
    pub fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; LEN];
        let mut put = |field: Field, value: &[u8]| field.put(&mut page, value);
        let g = &self.geometry;
        let sections = g.sections();
        put(MAGIC, &MAGIC_BYTES);
        put(FORMAT_MAJOR, &MAJOR.to_le_bytes());
        put(FORMAT_MINOR, &MINOR.to_le_bytes());
        put(BYTE_ORDER, &BYTE_ORDER_MARK.to_le_bytes());
        put(HEADER_LEN, &(LEN as u32).to_le_bytes());
        put(REGION_ID, &self.region_id);
        put(CREATED_NS, &self.created_ns.to_le_bytes());
        put(FILE_LEN, &g.file_len().to_le_bytes());
        put(PAGE_LEN, &(PAGE as u32).to_le_bytes());
        put(DATA_ALIGN_LEN, &(g.data_align() as u32).to_le_bytes());
        put(LANE_COUNT, &g.lane_count().to_le_bytes());
        put(CONSUMER_COUNT, &CONSUMERS.to_le_bytes());
        put(CAPACITY, &g.capacity().to_le_bytes());
        put(START_POSITION, &self.start_position.to_le_bytes());
        put(START_SEQUENCE, &self.start_sequence.to_le_bytes());
        put(RECORD_ALIGN, &(g.record_align() as u32).to_le_bytes());
        put(RECORD_PREFIX, &(self.order.record_prefix() as u32).to_le_bytes());
        put(PAYLOAD_ALIGN, &8u32.to_le_bytes());
        put(ORDER, &(self.order as u32).to_le_bytes());
        put(CODEC_ID, &self.codec.0.to_le_bytes());
        put(SECTION_COUNT, &(sections.len() as u32).to_le_bytes());
        put(FINGERPRINT, &self.type_fingerprint.to_le_bytes());
        let mut name = [0; MAX_SCHEMA_NAME];
        name[..self.schema_name.len()].copy_from_slice(self.schema_name.as_bytes());
        put(SCHEMA_NAME, &name);
        for (entry, s) in page[SECTIONS.offset..].chunks_exact_mut(SECTION_LEN).zip(sections) {
            entry[0..4].copy_from_slice(&s.id.to_le_bytes());
            entry[8..16].copy_from_slice(&s.offset.to_le_bytes());
            entry[16..24].copy_from_slice(&s.len.to_le_bytes());
            entry[24..32].copy_from_slice(&s.stride.to_le_bytes());
        }
        let check = crc32c::crc32c(&page[..CHECK.offset]);
        CHECK.put(&mut page, &check.to_le_bytes());
        page
    }

    /// Reads the first bytes of a file (up to [`LEN`] of them) of `file_len`
    /// bytes, and believes nothing: every field is checked, and the length of
    /// the file must be the one that follows from them.
    pub fn verify(page: &[u8], file_len: u64, access: Access) -> Result<Header, Refusal> {
        check_identity(page, file_len)?;
        check_version(page, access)?;

        let expected = crc32c::crc32c(&page[..CHECK.offset]);
        let found = CHECK.u32(page);
        if found != expected {
            return Err(Refusal::CheckSum { expected, found });
        }
        for (field, only) in [
            (BYTE_ORDER, BYTE_ORDER_MARK),
            (HEADER_LEN, LEN as u32),
            (PAGE_LEN, PAGE as u32),
            (CONSUMER_COUNT, CONSUMERS),
            (PAYLOAD_ALIGN, 8),
        ] {
            let value = field.u32(page);
            if value != only {
                return Err(Refusal::Field { field: field.name, value: value as u64 });
            }
        }

        check_reserved(page)?;
        let order = match ORDER.u32(page) {
            0 => Order::Fifo,
            1 => Order::Total,
            value => return Err(Refusal::Field { field: ORDER.name, value: value as u64 }),
        };
        let record_prefix = RECORD_PREFIX.u32(page) as u64;
        if record_prefix != order.record_prefix() {
            return Err(Refusal::Field { field: RECORD_PREFIX.name, value: record_prefix });
        }
        let record_align = RECORD_ALIGN.u32(page) as u64;
        let data_align = DATA_ALIGN_LEN.u32(page) as u64;
        if ![DATA_ALIGN, HUGE_ALIGN].contains(&data_align) {
            return Err(Refusal::Field { field: DATA_ALIGN_LEN.name, value: data_align });
        }
        let lane_count = LANE_COUNT.u32(page);
        let geometry = Geometry::plan_aligned(CAPACITY.u64(page), record_align, lane_count, data_align)?;
        let start_position = START_POSITION.u64(page);
        if !start_position.is_multiple_of(record_align) {
            return Err(GeometryError::StartPosition { start_position, record_align }.into());
        }
        check_sections(page, &geometry)?;
        let expected = geometry.file_len();
        if FILE_LEN.u64(page) != expected {
            return Err(Refusal::Field { field: FILE_LEN.name, value: FILE_LEN.u64(page) });
        }
        if file_len != expected {
            return Err(Refusal::FileLen { expected, found: file_len });
        }
        Ok(Header {
            geometry,
            region_id: REGION_ID.bytes(page).try_into().expect("16 bytes"),
            created_ns: CREATED_NS.u64(page),
            start_position,
            start_sequence: START_SEQUENCE.u64(page),
            order,
            codec: CodecId(CODEC_ID.u32(page)),
            type_fingerprint: FINGERPRINT.u64(page),
            schema_name: schema_name(SCHEMA_NAME.bytes(page))?,
        })
    }
}

/// True if these bytes begin like a region of any version.
pub fn has_magic(page: &[u8]) -> bool {
    page.starts_with(&MAGIC_BYTES)
}

fn check_identity(page: &[u8], file_len: u64) -> Result<(), Refusal> {
    if page.is_empty() {
        return Err(Refusal::Empty);
    }
    if page.starts_with(OTHER_SHMRING) {
        return Err(Refusal::OtherShmring);
    }
    if page.iter().all(|&b| b == 0) {
        return Err(Refusal::Zeros);
    }
    if !has_magic(page) {
        return Err(Refusal::NotARegion { found: page[..page.len().min(8)].to_vec() });
    }
    if page.len() < LEN {
        return Err(Refusal::FileLen { expected: LEN as u64, found: file_len });
    }
    Ok(())
}

fn check_version(page: &[u8], access: Access) -> Result<(), Refusal> {
    let (found_major, found_minor) = (FORMAT_MAJOR.u32(page), FORMAT_MINOR.u32(page));
    // Only additions that are announced by feature bits come with a minor
    // version, so a later minor is readable when it asks for nothing unknown.
    if found_major != MAJOR {
        return Err(Refusal::Version { found_major, found_minor });
    }
    let unknown = match access {
        Access::Look => INCOMPATIBLE.u64(page),
        Access::Use => INCOMPATIBLE.u64(page) | READ_COMPATIBLE.u64(page),
    };
    if unknown != 0 {
        return Err(Refusal::Features { unknown });
    }
    Ok(())
}

/// Bytes between the fields are zero, unless a later minor version uses them.
fn check_reserved(page: &[u8]) -> Result<(), Refusal> {
    if FORMAT_MINOR.u32(page) > MINOR {
        return Ok(());
    }
    let gaps = FIELDS.windows(2).map(|pair| pair[0].end()..pair[1].offset);
    // Whole gaps first, which takes a tenth of the time.
    let mut used = gaps.filter(|gap| page[gap.clone()].iter().fold(0, |bits, byte| bits | byte) != 0);
    match used.next().and_then(|mut gap| gap.find(|&at| page[at] != 0)) {
        Some(at) => Err(Refusal::Field { field: "a reserved byte, its offset", value: at as u64 }),
        None => Ok(()),
    }
}

/// Sections with an id that 1.0 knows must be where 1.0 puts them; others are skipped.
fn check_sections(page: &[u8], geometry: &Geometry) -> Result<(), Refusal> {
    let count = SECTION_COUNT.u32(page) as usize;
    if count > SECTIONS.len / SECTION_LEN {
        return Err(Refusal::Field { field: SECTION_COUNT.name, value: count as u64 });
    }
    let word = |entry: &[u8], at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().expect("8 bytes"));
    let table = || SECTIONS.bytes(page).chunks_exact(SECTION_LEN).take(count);
    for s in geometry.sections() {
        let as_planned = |e: &&[u8]| (word(e, 8), word(e, 16), word(e, 24)) == (s.offset, s.len, s.stride);
        let mut named = table().filter(|e| word(e, 0) == s.id as u64);
        if named.next().filter(as_planned).is_none() || named.next().is_some() {
            return Err(Refusal::Field { field: SECTIONS.name, value: s.id as u64 });
        }
    }
    Ok(())
}

fn schema_name(bytes: &[u8]) -> Result<String, Refusal> {
    let len = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let (name, rest) = bytes.split_at(len);
    match std::str::from_utf8(name) {
        Ok(name) if rest.iter().all(|&b| b == 0) => Ok(name.to_owned()),
        _ => Err(Refusal::Field { field: SCHEMA_NAME.name, value: bytes[0] as u64 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            geometry: Geometry::plan(1 << 20, 16, 1).unwrap(),
            region_id: *b"0123456789abcdef",
            created_ns: 7,
            start_position: u64::MAX - 15,
            start_sequence: 9,
            order: Order::Fifo,
            codec: CodecId::BINCODE,
            type_fingerprint: 11,
            schema_name: "orders".into(),
        }
    }

    fn verify(page: &[u8]) -> Result<Header, Refusal> {
        Header::verify(page, header().geometry.file_len(), Access::Use)
    }

    fn resealed(field: Field, value: u64) -> Vec<u8> {
        let mut page = header().encode();
        let len = field.len.min(8);
        page[field.offset..field.offset + len].copy_from_slice(&value.to_le_bytes()[..len]);
        let check = crc32c::crc32c(&page[..CHECK.offset]);
        CHECK.put(&mut page, &check.to_le_bytes());
        page
    }

    #[test]
    fn a_header_comes_back_as_it_went_in() {
        assert_eq!(verify(&header().encode()), Ok(header()));
        let total = Header { order: Order::Total, ..header() };
        let page = total.encode();
        assert_eq!((ORDER.u32(&page), RECORD_PREFIX.u32(&page)), (1, 8));
        assert_eq!(verify(&page), Ok(total));
    }

    #[test]
    fn a_region_for_huge_pages_says_so() {
        let huge =
            Header { geometry: Geometry::plan_aligned(4 << 20, 16, 1, HUGE_ALIGN).unwrap(), ..header() };
        let page = huge.encode();
        assert_eq!(DATA_ALIGN_LEN.u32(&page) as u64, HUGE_ALIGN);
        assert_eq!(Header::verify(&page, 6 << 20, Access::Use), Ok(huge));
        // Its sections are not where those of another alignment are.
        let lie = verify(&resealed(DATA_ALIGN_LEN, HUGE_ALIGN));
        assert!(matches!(lie, Err(Refusal::Geometry(GeometryError::HugeCapacity { .. }))), "{lie:?}");
        let mut page = page;
        DATA_ALIGN_LEN.put(&mut page, &(DATA_ALIGN as u32).to_le_bytes());
        let check = crc32c::crc32c(&page[..CHECK.offset]);
        CHECK.put(&mut page, &check.to_le_bytes());
        let lie = Header::verify(&page, 6 << 20, Access::Use);
        assert!(matches!(lie, Err(Refusal::Field { field: "sections", .. })), "{lie:?}");
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let page = header().encode();
        for bit in 0..page.len() * 8 {
            let mut page = page.clone();
            page[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&page).is_err(), "bit {bit} flipped unseen");
        }
    }

    #[test]
    fn a_well_sealed_lie_is_refused_by_its_field() {
        for (field, value) in [
            (BYTE_ORDER, 0x0403_0201),
            (HEADER_LEN, 8192),
            (PAGE_LEN, 1),
            (DATA_ALIGN_LEN, 0),
            (DATA_ALIGN_LEN, 4096),
            (CONSUMER_COUNT, 2),
            (RECORD_PREFIX, 8),
            (PAYLOAD_ALIGN, 64),
            (ORDER, 2),
            (FILE_LEN, 1),
            (SECTION_COUNT, 17),
            (SCHEMA_NAME, 0xFF),
        ] {
            let refusal = verify(&resealed(field, value)).unwrap_err();
            assert!(
                matches!(&refusal, Refusal::Field { field: f, .. } if *f == field.name),
                "{}: {refusal}",
                field.name
            );
        }
        assert!(matches!(verify(&resealed(CAPACITY, 3)), Err(Refusal::Geometry(_))));
        assert!(matches!(verify(&resealed(START_POSITION, 1)), Err(Refusal::Geometry(_))));
        let moved = Field::new("control's offset", SECTIONS.offset + 8, 8);
        assert!(matches!(verify(&resealed(moved, 1 << 40)), Err(Refusal::Field { field: "sections", .. })));
    }

    #[test]
    fn versions_and_features_are_told_from_damage() {
        let major = verify(&resealed(FORMAT_MAJOR, 2)).unwrap_err();
        assert_eq!(major, Refusal::Version { found_major: 2, found_minor: 0 });
        assert!(major.to_string().contains("2.0") && major.to_string().contains("1.0"));
        assert_eq!(verify(&resealed(INCOMPATIBLE, 4)), Err(Refusal::Features { unknown: 4 }));
        assert_eq!(verify(&resealed(READ_COMPATIBLE, 8)), Err(Refusal::Features { unknown: 8 }));
        assert_eq!(verify(&resealed(COMPATIBLE, 8)), Ok(header()));
        let (page, len) = (resealed(READ_COMPATIBLE, 8), header().geometry.file_len());
        assert_eq!(Header::verify(&page, len, Access::Look), Ok(header()));
        let reserved = Field::new("reserved", SECTIONS.end(), 8);
        assert!(matches!(verify(&resealed(reserved, 1)), Err(Refusal::Field { value: 0x300, .. })));
        assert_eq!(verify(&resealed(FORMAT_MINOR, 3)), Ok(header()));
    }

    #[test]
    fn other_files_are_named() {
        assert_eq!(Header::verify(b"", 0, Access::Use), Err(Refusal::Empty));
        assert_eq!(Header::verify(&[0; LEN], 4096, Access::Use), Err(Refusal::Zeros));
        assert_eq!(Header::verify(b"RMHS....", 8, Access::Use), Err(Refusal::OtherShmring));
        assert_eq!(
            Header::verify(b"#!/", 3, Access::Use),
            Err(Refusal::NotARegion { found: b"#!/".to_vec() })
        );
        let page = header().encode();
        assert_eq!(
            Header::verify(&page[..100], 100, Access::Use),
            Err(Refusal::FileLen { expected: 4096, found: 100 })
        );
        let expected = header().geometry.file_len();
        assert_eq!(Header::verify(&page, 5000, Access::Use), Err(Refusal::FileLen { expected, found: 5000 }));
    }
}
