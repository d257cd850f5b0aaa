//! Sizes and offsets of a region, in checked arithmetic.

use super::blocks::{control, extent, lane, owner};

/// Bytes of the header, and the alignment of every section.
pub const PAGE: u64 = 4096;
/// Alignment of lane data in the file, and the smallest capacity.
pub const DATA_ALIGN: u64 = 64 * 1024;
/// The largest capacity of a lane.
pub const MAX_CAPACITY: u64 = 1 << 40;
/// Lanes that this version of the library can use.
pub const LANES: u32 = 1;
/// Consumers that this version of the library can use.
pub const CONSUMERS: u32 = 1;

/// Where everything is in a region. Built only by [`Geometry::plan`], so the
/// numbers hold: powers of two, sums that fit, sections that do not overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    capacity: u64,
    record_align: u64,
    lane_count: u32,
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
    /// The number of lanes is not supported.
    #[error("{lane_count} lanes are not possible: this version of shmring has 1 lane a region")]
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
    /// Checks the sizes and lays a region out.
    pub fn plan(capacity: u64, record_align: u64, lane_count: u32) -> Result<Geometry, GeometryError> {
        if !capacity.is_power_of_two() || !(DATA_ALIGN..=MAX_CAPACITY).contains(&capacity) {
            return Err(GeometryError::Capacity { capacity });
        }
        if ![8, 16, 64].contains(&record_align) {
            return Err(GeometryError::RecordAlign { record_align });
        }
        if lane_count != LANES {
            return Err(GeometryError::LaneCount { lane_count });
        }
        Ok(Geometry { capacity, record_align, lane_count })
    }

    /// Bytes of each lane's ring.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Records start at multiples of this many bytes.
    pub fn record_align(&self) -> u64 {
        self.record_align
    }

    /// Number of lanes.
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
            offset: round_up(free_from, DATA_ALIGN),
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
        for (capacity, align) in [(DATA_ALIGN, 8), (1 << 20, 16), (MAX_CAPACITY, 64)] {
            let g = Geometry::plan(capacity, align, 1).unwrap();
            let mut end = PAGE;
            for s in g.sections() {
                assert!(s.offset >= end && s.offset.is_multiple_of(PAGE) && s.len > 0, "{s:?}");
                end = s.offset + s.len;
            }
            assert_eq!(end, g.file_len());
            assert_eq!(g.data_offset(0) % DATA_ALIGN, 0);
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for capacity in [0, 1, 65535, 65537, 3 << 20, MAX_CAPACITY * 2, u64::MAX] {
            assert_eq!(Geometry::plan(capacity, 16, 1), Err(GeometryError::Capacity { capacity }));
        }
        for record_align in [0, 1, 24, 32, 128, u64::MAX] {
            assert_eq!(
                Geometry::plan(1 << 20, record_align, 1),
                Err(GeometryError::RecordAlign { record_align })
            );
        }
        assert_eq!(Geometry::plan(1 << 20, 16, 2), Err(GeometryError::LaneCount { lane_count: 2 }));
    }
}
