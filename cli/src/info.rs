//! `shmring info`.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use shmring::{Cause, LaneStatus, Owner, Status};
use shmring_grammar::{Common, Exit, file_words, is_broken_pipe};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let status = Status::of(arguments.common.path()?)?;
    match write(&status, &mut io::stdout().lock()) {
        Err(e) if !is_broken_pipe(&e) => Err(anyhow::Error::new(e).context("cannot write to stdout").into()),
        _ => Ok(()),
    }
}

fn write(status: &Status, out: &mut impl Write) -> io::Result<()> {
    let created = UNIX_EPOCH + Duration::from_nanos(status.created_ns);
    let id: String = status.region_id.iter().map(|b| format!("{b:02x}")).collect();
    writeln!(out, "path          {}", status.path.display())?;
    writeln!(out, "region id     {id}")?;
    writeln!(out, "created       {}", humantime::format_rfc3339_seconds(created))?;
    writeln!(out, "file          {} bytes", status.file_len)?;
    writeln!(out, "max producers {}", status.max_producers)?;
    writeln!(out, "order         {}", status.order)?;
    writeln!(out, "capacity      {} bytes a producer", status.capacity)?;
    writeln!(out, "max message   {} bytes", status.max_message)?;
    writeln!(out, "record align  {} bytes", status.record_align)?;
    writeln!(out, "codec         {}", status.codec)?;
    writeln!(out, "schema        {}", status.schema)?;
    writeln!(out, "consumer      {}", holder(&status.consumer))?;
    if let Some((sink, position)) = &status.sink {
        writeln!(out, "output        {}, {position} bytes", file_words(sink))?;
    }
    if status.lanes.is_empty() {
        writeln!(out, "lanes         none was used yet")?;
    }
    status.lanes.iter().try_for_each(|lane| write_lane(lane, status.capacity, out))
}

fn write_lane(lane: &LaneStatus, capacity: u64, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "lane {}", lane.number)?;
    if let Some(name) = &lane.name {
        writeln!(out, "  name        {name}")?;
    }
    writeln!(out, "  producer    {}", holder(&lane.producer))?;
    writeln!(out, "  stream      {}", lane.stream)?;
    writeln!(out, "  deaths      {}", lane.deaths)?;
    // Sequences: what was dropped took some.
    writeln!(out, "  sent        {} messages", lane.sent)?;
    for (cause, count) in lane.dropped.iter().filter(|(_, count)| *count > 0) {
        let why = match cause {
            Cause::Deadline => "the ring stayed full until the deadline",
            _ => "the ring was full",
        };
        writeln!(out, "  dropped     {count} of them, {why}")?;
    }
    writeln!(out, "  committed   {} messages", lane.committed)?;
    writeln!(out, "  waiting     {} messages", (lane.sent.wrapping_sub(lane.committed) as i64).max(0))?;
    writeln!(out, "  used        {} of {capacity} bytes", lane.used)?;
    if let Some(source) = &lane.source {
        writeln!(out, "  input       {}", file_words(source))?;
    }
    Ok(())
}

fn holder(holder: &Option<Option<Owner>>) -> String {
    match holder {
        None => "none attached".to_owned(),
        Some(None) => "attached, and has not said who it is".to_owned(),
        Some(Some(owner)) => owner.to_string(),
    }
}
