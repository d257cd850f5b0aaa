//! How a region comes to be, or is found: create, open, compare.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::error::{CreateError, OpenError};
use super::options::{RegionOptions, Schema};
use super::region::Region;
use crate::layout::blocks::{extent, lane};
use crate::layout::header::{self, Access, Header, MAX_SCHEMA_NAME};
use crate::layout::{CodecId, Geometry, GeometryError, Order, Place, Refusal};
use crate::os::file::{self, FileId};
use crate::os::{huge, identity};
use crate::region::fresh_lane;

/// How often open-or-create goes round when others create and remove the
/// region at the same time.
const ROUNDS: usize = 100;

impl RegionOptions {
    /// Creates a region: it appears whole, with all its space reserved and
    /// mode 0600 if no other was asked for, or not at all.
    ///
    /// # Errors
    /// [`CreateError::Exists`] if there is anything at `path`;
    /// [`CreateError::NoSpace`] now instead of a signal later;
    /// [`CreateError::ReadOnly`]; [`CreateError::Lack`] if the system has not
    /// enough descriptors or huge pages.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<Region, CreateError> {
        let path = path.as_ref();
        let header = self.header()?;
        let geometry = header.geometry;
        let start = first_bytes(&header);

        let (len, needed) = (geometry.file_len(), first_space(&geometry));
        let failed = |source| self.refused(path, None, needed, source);
        let rights = self.rights(path)?;
        let folder = File::open(file::folder_of(path)).map_err(failed)?;
        let file_system = file::file_system(&folder).map_err(failed)?;
        let keeps_space = huge::keeps_its_space(file_system);
        if let Some(file_system) = file::unsuitable_file_system(file_system) {
            return Err(CreateError::FileSystem { path: path.to_owned(), file_system });
        }
        huge::check_folder(&folder, path, self.map.huge_pages).map_err(failed)?;
        if let Some(lack) = huge::missing_pages(&folder, needed) {
            return Err(lack.into());
        }
        let file = file::create_whole(path, len, needed, rights, &start)
            .map_err(|source| self.refused(path, Some(&folder), needed, source))?;
        let (file, path) = (Arc::new(file), path.to_owned());
        let named = file.metadata().ok().map(|found| FileId::of(&found));
        let (is_new, map) = (true, self.map.clone());
        Ok(Region { file, path, named, header, is_new, keeps_space, map })
    }

    /// Opens a region. The time does not depend on its size.
    ///
    /// # Errors
    /// [`OpenError::Differs`] if an option was given that the region does not
    /// have; [`OpenError::Refused`] if the file is no region that can be used.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Region, OpenError> {
        let path = path.as_ref();
        let (file, found) = file::open_regular(path, true).map_err(|e| OpenError::from_io(path, e))?;
        self.accept(file, &found, path, Some(FileId::of(&found)))
    }

    /// The region in an open regular file that was `found` so, if it is one
    /// that can be used and that is what was asked for. If it is
    /// `named`, it was at `path`; else that is for people.
    pub(super) fn accept(
        &self,
        file: File,
        found: &Metadata,
        path: &Path,
        named: Option<FileId>,
    ) -> Result<Region, OpenError> {
        let owned = || path.to_owned();
        let io = |source| OpenError::from_io(path, source);
        let page = first_page(&file, found).map_err(io)?;
        let refused = |source| OpenError::Refused { path: owned(), source };
        let header = Header::verify(&page, found.len(), Access::Use).map_err(refused)?;
        check_extents(&file, &header).map_err(io)?.map_err(refused)?;
        let file_system = file::file_system(&file).map_err(io)?;
        let keeps_space = huge::keeps_its_space(file_system);
        if let Some(file_system) = file::unsuitable_file_system(file_system) {
            return Err(OpenError::FileSystem { path: owned(), file_system });
        }
        self.compare(path, &header)?;
        self.compare_rights(path, found)?;
        let (file, path) = (Arc::new(file), owned());
        let (is_new, map) = (false, self.map.clone());
        Ok(Region { file, path, named, header, is_new, keeps_space, map })
    }

    /// Opens the region, or creates it if there is none; any number of
    /// processes may do so at once.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) and [`create`](Self::create).
    pub fn open_or_create(&self, path: impl AsRef<Path>) -> Result<Region, OpenError> {
        let path = path.as_ref();
        // What could never be created is refused even if a region is there.
        self.header().and(self.rights(path).map(drop)).map_err(OpenError::Create)?;
        for round in 1.. {
            match self.open(path) {
                Err(OpenError::NotFound { .. }) => {}
                opened => return opened,
            }
            match self.create(path) {
                Err(CreateError::Exists { .. }) if round < ROUNDS => {}
                created => return Ok(created?),
            }
        }
        unreachable!("the rounds end with a result")
    }

    pub(super) fn header(&self) -> Result<Header, CreateError> {
        let schema = self.schema.clone().unwrap_or_default();
        if schema.name.len() > MAX_SCHEMA_NAME || schema.name.contains('\0') {
            return Err(CreateError::SchemaName { name: schema.name });
        }
        let record_align = self.record_align.unwrap_or(Self::DEFAULT_RECORD_ALIGN);
        let data_align = self.data_align();
        let capacity = self.capacity.unwrap_or(Self::DEFAULT_CAPACITY.max(data_align));
        let lanes = self.max_producers.unwrap_or(Self::DEFAULT_MAX_PRODUCERS);
        let geometry = Geometry::plan_aligned(capacity, record_align, lanes, data_align)?;
        let start_position = self.start_position;
        if !start_position.is_multiple_of(record_align) {
            return Err(GeometryError::StartPosition { start_position, record_align }.into());
        }
        let mut region_id = [0; 16];
        // An id of zeros would be as good for everything but telling two apart.
        let _ = getrandom::fill(&mut region_id);
        Ok(Header {
            geometry,
            region_id,
            created_ns: identity::now_ns(),
            start_position,
            start_sequence: self.start_sequence,
            order: self.order.unwrap_or(Order::Fifo),
            codec: self.codec.unwrap_or(CodecId::BYTES),
            type_fingerprint: schema.fingerprint(),
            schema_name: schema.name,
        })
    }

    /// Refuses what was asked for and is not so.
    fn compare(&self, path: &Path, header: &Header) -> Result<(), OpenError> {
        let differs = |option, asked: &dyn ToString, found: &dyn ToString| OpenError::Differs {
            path: path.to_owned(),
            option,
            asked: asked.to_string(),
            found: found.to_string(),
        };
        let found = &header.geometry;
        match self.capacity {
            Some(asked) if asked != found.capacity() => {
                return Err(differs("capacity", &asked, &found.capacity()));
            }
            _ => {}
        }
        match self.record_align {
            Some(asked) if asked != found.record_align() => {
                return Err(differs("record alignment", &asked, &found.record_align()));
            }
            _ => {}
        }
        match self.max_producers {
            Some(asked) if asked != found.lane_count() => {
                return Err(differs("maximum of producers", &asked, &found.lane_count()));
            }
            _ => {}
        }
        match self.order {
            Some(asked) if asked != header.order => return Err(differs("order", &asked, &header.order)),
            _ => {}
        }
        match self.codec {
            Some(asked) if asked != header.codec => return Err(differs("codec", &asked, &header.codec)),
            _ => {}
        }
        match &self.schema {
            Some(asked) if *asked != schema_of(header) || asked.fingerprint() != header.type_fingerprint => {
                Err(differs("schema", asked, &schema_of(header)))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn schema_of(header: &Header) -> Schema {
    Schema { name: header.schema_name.clone(), version: header.type_fingerprint as u32 }
}

/// What a new region holds besides zeros, and where.
pub(super) fn first_bytes(header: &Header) -> [(u64, Vec<u8>); 3] {
    let geometry = &header.geometry;
    let mut block = vec![0; lane::STRIDE];
    for (word, value) in fresh_lane(header.start_position, header.start_sequence) {
        if let Place::Lane(at) = word.place() {
            block[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
    let mut control = block.repeat(geometry.lane_count() as usize);
    // The others get their space when they are taken.
    lane::READY.put(&mut control, &1u64.to_le_bytes());
    let extents = (0..geometry.lane_count()).flat_map(|lane| {
        let mut table = vec![0; extent::STRIDE];
        extent::FIRST_POSITION.put(&mut table, &header.start_position.to_le_bytes());
        extent::FILE_OFFSET.put(&mut table, &geometry.data_offset(lane).to_le_bytes());
        extent::CAPACITY.put(&mut table, &geometry.capacity().to_le_bytes());
        table
    });
    [(geometry.lane_offset(0), control), (geometry.extent_offset(0), extents.collect()), (0, header.encode())]
}

/// Bytes that a new region takes: all but the rings of lanes that nobody took.
pub(super) fn first_space(geometry: &Geometry) -> u64 {
    geometry.data_offset(0) + geometry.capacity()
}

/// The header's bytes, as many as there were.
pub(crate) fn first_page(file: &File, found: &Metadata) -> io::Result<Vec<u8>> {
    let mut page = vec![0; found.len().min(header::LEN as u64) as usize];
    file.read_exact_at(&mut page, 0)?;
    Ok(page)
}

/// Format 1.0 has one extent a lane, where the geometry says.
fn check_extents(file: &File, header: &Header) -> io::Result<Result<(), Refusal>> {
    let g = &header.geometry;
    let mut tables = vec![0; extent::STRIDE * g.lane_count() as usize];
    file.read_exact_at(&mut tables, g.extent_offset(0))?;
    for (lane, table) in (0..).zip(tables.chunks(extent::STRIDE)) {
        for (field, expected) in [
            (extent::FIRST_POSITION, header.start_position),
            (extent::FILE_OFFSET, g.data_offset(lane)),
            (extent::CAPACITY, g.capacity()),
        ] {
            let value = field.u64(table);
            if value != expected {
                return Ok(Err(Refusal::Field { field: field.name, value }));
            }
        }
    }
    Ok(Ok(()))
}
