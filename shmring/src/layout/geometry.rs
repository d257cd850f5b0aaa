//! Sizes and offsets of a region, in checked arithmetic.

use super::blocks::{control, extent, lane, owner};

/// Bytes of the header, and the alignment of every section.
pub const PAGE: u64 = 4096;
/// Alignment of lane data in the file, and the smallest capacity.
pub const DATA_ALIGN: u64 = 64 * 1024;
/// The same for a region on huge pages.
pub const HUGE_ALIGN: u64 = 2 * 1024 * 1024;
/// The largest capacity of a lane.
pub const MAX_CAPACITY: u64 = 1 << 40;
/// The most lanes of a region: there are so many lock bytes.
pub const MAX_LANES: u32 = 1024;
/// Consumers that this version of the library can use.
pub const CONSUMERS: u32 = 1;

/// Where everything is in a region. Built only by [`Geometry::plan`] and
/// [`Geometry::plan_aligned`], so the numbers hold: powers of two, sums that
/// fit, sections that do not overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    capacity: u64,
    record_align: u64,
    lane_count: u32,
    data_align: u64,
}

/// A size that no region can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// The capacity is not a power of two between 64 KiB and 1 TiB.
    #[error(
        "a capacity of {capacity} bytes is not possible: it must be a power of two \
         from 64 KiB to 1 TiB"
    )]
    Capacity {
        /// What was asked for, in bytes.
        capacity: u64,
    },
    /// The capacity is not a power of two between 2 MiB and 1 TiB, and huge
    /// pages were asked for.
    #[error(
        "a capacity of {capacity} bytes is not possible with huge pages: it must be a power of two \
         from 2 MiB to 1 TiB"
    )]
    HugeCapacity {
        /// What was asked for, in bytes.
        capacity: u64,
    },
    /// The data alignment is neither 64 KiB nor 2 MiB.
    #[error("a data alignment of {data_align} bytes is not possible: it must be 65536 or 2097152")]
    DataAlign {
        /// What was asked for, in bytes.
        data_align: u64,
    },
    /// The record alignment is none of 8, 16 and 64.
    #[error("a record alignment of {record_align} bytes is not possible: it must be 8, 16 or 64")]
    RecordAlign {
        /// What was asked for, in bytes.
        record_align: u64,
    },
    /// The start position is not a multiple of the record alignment.
    #[error("a start position of {start_position} is not a multiple of the record alignment {record_align}")]
    StartPosition {
        /// What was asked for.
        start_position: u64,
        /// The record alignment in bytes.
        record_align: u64,
    },
    /// The number of lanes is 0 or more than 1024.
    #[error("{lane_count} producers are not possible: a region has from 1 to 1024 lanes, one for each")]
    LaneCount {
        /// What was asked for.
        lane_count: u32,
    },
}

/// A part of the file: offset, length and stride in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// The number that names it in the section table.
    pub id: u32,
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Bytes from one entry to the next.
    pub stride: u64,
}

fn round_up(value: u64, align: u64) -> u64 {
    value.div_ceil(align) * align
}

impl Geometry {
    /// Checks the sizes and lays a region out, for pages of the usual size.
    pub fn plan(capacity: u64, record_align: u64, lane_count: u32) -> Result<Geometry, GeometryError> {
        Geometry::plan_aligned(capacity, record_align, lane_count, DATA_ALIGN)
    }

    /// Checks the sizes and lays a region out, its data at a multiple of
    /// `data_align`: [`DATA_ALIGN`], or [`HUGE_ALIGN`] for huge pages.
    pub fn plan_aligned(
        capacity: u64,
        record_align: u64,
        lane_count: u32,
        data_align: u64,
    ) -> Result<Geometry, GeometryError> {
        let refused = match data_align {
            DATA_ALIGN => GeometryError::Capacity { capacity },
            HUGE_ALIGN => GeometryError::HugeCapacity { capacity },
            _ => return Err(GeometryError::DataAlign { data_align }),
        };
        if !capacity.is_power_of_two() || !(data_align..=MAX_CAPACITY).contains(&capacity) {
            return Err(refused);
        }
        if ![8, 16, 64].contains(&record_align) {
            return Err(GeometryError::RecordAlign { record_align });
        }
        if !(1..=MAX_LANES).contains(&lane_count) {
            return Err(GeometryError::LaneCount { lane_count });
        }
        Ok(Geometry { capacity, record_align, lane_count, data_align })
    }

    /// Bytes of each lane's ring.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Records start at multiples of this many bytes.
    pub fn record_align(&self) -> u64 {
        self.record_align
    }

    /// The data section starts at a multiple of this many bytes.
    pub fn data_align(&self) -> u64 {
        self.data_align
    }

    /// Number of lanes: producers that there can be at a time.
    pub fn lane_count(&self) -> u32 {
        self.lane_count
    }

    /// The section table of format 1.0, ascending by offset.
    pub fn sections(&self) -> [Section; 6] {
        let lanes = self.lane_count as u64;
        let mut free_from = PAGE;
        let mut next = |id, entries: u64, stride: usize| {
            let section =
                Section { id, offset: free_from, len: entries * stride as u64, stride: stride as u64 };
            free_from = round_up(section.offset + section.len, PAGE);
            section
        };
        let small = [
            next(1, 1, control::LEN),
            next(2, lanes, lane::STRIDE),
            next(3, CONSUMERS as u64 + lanes, owner::STRIDE),
            next(4, lanes, 1),
            next(5, lanes, extent::STRIDE),
        ];
        let [control, lanes_at, owners, activity, extents] = small;
        let data = Section {
            id: 6,
            offset: round_up(free_from, self.data_align),
            len: lanes * self.capacity,
            stride: self.capacity,
        };
        [control, lanes_at, owners, activity, extents, data]
    }

    fn section(&self, index: usize) -> Section {
        self.sections()[index]
    }

    /// Offset of the region-wide block.
    pub fn control_offset(&self) -> u64 {
        self.section(0).offset
    }

    /// Offset of a lane's control block.
    pub fn lane_offset(&self, lane: u32) -> u64 {
        let lanes = self.section(1);
        lanes.offset + lane as u64 * lanes.stride
    }

    /// Offset of the consumer's owner slot.
    pub fn consumer_owner_offset(&self) -> u64 {
        self.section(2).offset
    }

    /// Offset of the owner slot of a lane's producer.
    pub fn producer_owner_offset(&self, lane: u32) -> u64 {
        let owners = self.section(2);
        owners.offset + (CONSUMERS as u64 + lane as u64) * owners.stride
    }

    /// Offset of a lane's extent table.
    pub fn extent_offset(&self, lane: u32) -> u64 {
        let extents = self.section(4);
        extents.offset + lane as u64 * extents.stride
    }

    /// Offset of a lane's ring; for lane 0 also the length of everything before.
    pub fn data_offset(&self, lane: u32) -> u64 {
        let data = self.section(5);
        data.offset + lane as u64 * data.stride
    }

    /// Length of the file.
    pub fn file_len(&self) -> u64 {
        let data = self.section(5);
        data.offset + data.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_follow_one_another() {
        for (capacity, align, lanes, data_align) in [
            (DATA_ALIGN, 8, 1, DATA_ALIGN),
            (1 << 20, 16, 16, DATA_ALIGN),
            (MAX_CAPACITY, 64, MAX_LANES, DATA_ALIGN),
            (HUGE_ALIGN, 16, 3, HUGE_ALIGN),
            (MAX_CAPACITY, 64, MAX_LANES, HUGE_ALIGN),
        ] {
            let g = Geometry::plan_aligned(capacity, align, lanes, data_align).unwrap();
            let mut end = PAGE;
            for s in g.sections() {
                assert!(s.offset >= end && s.offset.is_multiple_of(PAGE) && s.len > 0, "{s:?}");
                end = s.offset + s.len;
            }
            assert_eq!(end, g.file_len());
            assert!(g.data_offset(0).is_multiple_of(data_align) && g.data_align() == data_align);
            assert_eq!(g.data_offset(lanes - 1) + capacity, end);
            assert!(g.file_len().is_multiple_of(data_align));
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for capacity in [0, 1, 65535, 65537, 3 << 20, MAX_CAPACITY * 2, u64::MAX] {
            assert_eq!(Geometry::plan(capacity, 16, 1), Err(GeometryError::Capacity { capacity }));
        }
        for capacity in [DATA_ALIGN, HUGE_ALIGN / 2, 3 << 20, MAX_CAPACITY * 2] {
            let refused = Geometry::plan_aligned(capacity, 16, 1, HUGE_ALIGN);
            assert_eq!(refused, Err(GeometryError::HugeCapacity { capacity }));
        }
        for data_align in [0, 4096, 1 << 20, 1 << 30] {
            let refused = Geometry::plan_aligned(1 << 30, 16, 1, data_align);
            assert_eq!(refused, Err(GeometryError::DataAlign { data_align }));
        }
        for record_align in [0, 1, 24, 32, 128, u64::MAX] {
            assert_eq!(
                Geometry::plan(1 << 20, record_align, 1),
                Err(GeometryError::RecordAlign { record_align })
            );
        }
        for lane_count in [0, MAX_LANES + 1, u32::MAX] {
            assert_eq!(Geometry::plan(1 << 20, 16, lane_count), Err(GeometryError::LaneCount { lane_count }));
        }
    }
}
