//! The rings of several lanes, or with messages that are dropped.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use shmring::internals::layout::Word;
use shmring::internals::ring::{Claim, Memory, Reader, Sink, Writer};

use super::{Plant, Planted};
use crate::prove::many;
use crate::prove::product::create;
use crate::prove::scenario::Scenario;
use crate::prove::states::{Hands, SINK, Step};
use crate::prove::trace::Progress;
use crate::prove::view::LaneView;
use crate::prove::watch::Tally;

/// Steps through one scenario.
pub(super) fn run(
    plant: Option<Plant>,
    scenario: Scenario,
    path: &Path,
    progress: &Progress,
) -> Result<Tally> {
    let plan = scenario.plan();
    let (_region, view) = create(&scenario, &plan, path)?;
    let shape = scenario.shape();
    let lanes: Vec<_> = (0..scenario.lanes).map(|lane| Planted::new(view.lane(lane), shape, plant)).collect();
    lanes.iter().for_each(|lane| lane.store(Word::Ready, 1));
    let writers = lanes.iter().map(|lane| Writer::take_over(lane, shape)).collect::<Result<_, _>>()?;
    let mut reader = Reader::take_over(&&lanes[0], shape, lanes.len());
    lanes.iter().try_for_each(|lane| reader.add(lane))?;
    let hands = RingHands { writers, reader };
    many::run_with(scenario, &plan, &view, hands, progress, || lanes.iter().for_each(Planted::arm))
}

/// The rings of several lanes.
struct RingHands<'a> {
    writers: Vec<Writer<&'a Planted<LaneView<'a>>>>,
    reader: Reader<&'a Planted<LaneView<'a>>>,
}

impl RingHands<'_> {
    fn push(&mut self, lane: usize, message: &[u8]) -> Result<(), Claim> {
        let writer = &mut self.writers[lane];
        writer.publish_gap(message.len())?;
        writer.claim(message.len())?;
        writer.write(0, message);
        writer.stage(0, message.len());
        Ok(())
    }
}

impl Hands for RingHands<'_> {
    fn take(&mut self, step: &Step) -> Result<()> {
        let no_room = |claim| anyhow!("no room: {claim:?}");
        match step {
            Step::Send(lane, message) => {
                self.push(*lane, message).map_err(no_room)?;
                self.writers[*lane].publish();
            }
            Step::Fail(lane, message) => {
                ensure!(self.push(*lane, message) == Err(Claim::Full), "the ring is not full");
            }
            Step::Batch(lane, messages, cause) => {
                messages.iter().try_for_each(|message| self.push(*lane, message)).map_err(no_room)?;
                match cause {
                    Some(cause) => self.writers[*lane].drop_message(*cause),
                    None => self.writers[*lane].publish(),
                }
            }
            Step::Drop(lane, cause) => self.writers[*lane].drop_message(*cause),
            Step::Read(lane, count) => {
                for _ in 0..*count {
                    let record = match self.reader.peek()? {
                        Some(record) => Some(record),
                        None => {
                            self.reader.begin();
                            self.reader.scan(true)?
                        }
                    };
                    let record = record.context("there is no message")?;
                    ensure!(record.lane as usize == *lane, "it is lane {}'s turn", record.lane);
                    self.reader.advance(&record);
                }
            }
            Step::Commit(position) => {
                if let Some(position) = *position {
                    self.reader.set_sink(Sink { id: SINK, position });
                }
                self.reader.commit();
            }
            Step::Close(lane) => self.writers[*lane].end()?,
        }
        Ok(())
    }
}
