//! The rings of a lane that has the region to itself.

use std::path::Path;

use anyhow::{Result, anyhow};
use shmring::internals::ring::{Memory, Reader, Shape, Sink, Writer};

use super::{Plant, Planted};
use crate::prove::expected::{Expected, READS};
use crate::prove::product::{Output, Pair, check_believable, create, prepare};
use crate::prove::scenario::{CAPACITY, Operation, Plan, Scenario};
use crate::prove::states::SINK;
use crate::prove::survivors::OneLane;
use crate::prove::trace::{Progress, each_instruction};
use crate::prove::watch::{Tally, Watch};

/// Steps through one scenario.
pub(super) fn run(
    plant: Option<Plant>,
    scenario: Scenario,
    path: &Path,
    progress: &Progress,
) -> Result<Tally> {
    let shape = scenario.shape();
    let mut plan = scenario.plan();
    if plant == Some(Plant::NoSpareWord) {
        fill_to_the_last_word(&mut plan, shape);
    }
    let (_region, view) = create(&scenario, &plan, path)?;
    let memory = Planted::new(view.lane(0), shape, plant);
    let mut rings = Rings::new(&memory, shape, Output::new(path)?)?;
    prepare(&scenario, &plan, &mut rings)?;
    let mut expected = Expected::new(&scenario, &plan);
    let subjects = expected.messages[expected.messages.len() - plan.subjects.len()..].to_vec();
    match scenario.operation {
        Operation::FileCommit => {
            rings.commit_to_file();
            rings.read_to_file(plan.pending.len())?;
            expected.file = Some(rings.output.file.try_clone()?);
        }
        Operation::ReadCommit => rings.read(plan.pending.len())?,
        _ if plant == Some(Plant::NoSpareWord) => {}
        _ => check_believable(&scenario, &plan, &view)?,
    }
    memory.arm();

    let operate = || match scenario.operation {
        Operation::Send => rings.send(&subjects[0]),
        Operation::ReserveCommit => rings.reserve_commit(scenario.reserve(subjects[0].len()), &subjects[0]),
        Operation::Batch => rings.batch(&subjects),
        Operation::ReadCommit => {
            rings.read(READS)?;
            rings.reader.commit();
            Ok(())
        }
        _ => {
            rings.read_to_file(READS)?;
            rings.commit_to_file();
            Ok(())
        }
    };
    let survivors = OneLane { shape, expected: &expected, plant };
    let mut watch = Watch::new(scenario, &survivors, &view);
    each_instruction(progress, None, operate, |returned| watch.look(returned))?;
    Ok(watch.finish())
}

/// Makes the message of a full ring so long that it ends where the first one
/// begins that is not committed.
fn fill_to_the_last_word(plan: &mut Plan, shape: Shape) {
    let size = |len: usize| shape.record_size(len as u64);
    let used: u64 = plan.pending.iter().chain(&plan.subjects).map(|&len| size(len)).sum();
    let left = CAPACITY - used;
    plan.subjects[0] = (size(plan.subjects[0]) + left - shape.before_payload()) as usize;
    plan.end = plan.end.wrapping_add(left);
}

/// Both ends of the lane.
pub(super) struct Rings<M> {
    writer: Writer<M>,
    pub(super) reader: Reader<M>,
    output: Output,
}

impl<'a, M: Memory> Rings<&'a Planted<M>> {
    pub(super) fn new(memory: &'a Planted<M>, shape: Shape, output: Output) -> Result<Rings<&'a Planted<M>>> {
        let mut reader = Reader::take_over(&memory, shape, 1);
        reader.add(memory)?;
        Ok(Rings { writer: Writer::take_over(memory, shape)?, reader, output })
    }

    fn put(&mut self, reserved: usize, message: &[u8]) -> Result<()> {
        self.writer.claim(reserved).map_err(|claim| anyhow!("no room: {claim:?}"))?;
        self.writer.memory().terminate(self.writer.tail(), reserved);
        self.writer.write(0, message);
        self.writer.stage(0, message.len());
        Ok(())
    }

    fn reserve_commit(&mut self, reserved: usize, message: &[u8]) -> Result<()> {
        self.put(reserved, message)?;
        self.writer.publish();
        Ok(())
    }

    fn batch(&mut self, messages: &[Vec<u8>]) -> Result<()> {
        messages.iter().try_for_each(|message| self.put(message.len(), message))?;
        self.writer.publish();
        Ok(())
    }

    fn next(&mut self) -> Result<Vec<u8>> {
        let record = self.reader.peek_lane(0)?.ok_or_else(|| anyhow!("there is no message"))?;
        let mut message = vec![0; record.len];
        self.reader.read(&record, &mut message);
        self.reader.advance(&record);
        Ok(message)
    }

    pub(super) fn read(&mut self, count: usize) -> Result<()> {
        (0..count).try_for_each(|_| self.next().map(drop))
    }

    fn read_to_file(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let message = self.next()?;
            self.output.write(&message)?;
        }
        Ok(())
    }

    fn commit_to_file(&mut self) {
        self.reader.set_sink(Sink { id: SINK, position: self.output.at });
        self.reader.commit();
    }
}

impl<M: Memory> Pair for Rings<&Planted<M>> {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        self.reserve_commit(message.len(), message)
    }

    fn receive(&mut self) -> Result<()> {
        self.read(1)?;
        self.reader.commit();
        Ok(())
    }
}
