//! Scenarios that are steps: on several lanes, or with dropped messages.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use shmring::{Cause, Consumer, Producer, Read, SendError, StreamId};

use super::crowd::Crowd;
use super::product::{Pair, check_believable, create, prepare};
use super::scenario::{Load, Operation, Plan, Scenario, payload};
use super::states::{Hands, SINK, States, Step};
use super::trace::{Progress, each_instruction};
use super::view::View;
use super::watch::{Tally, Watch};

/// Steps through one scenario.
pub(crate) fn run(scenario: Scenario, path: &Path, progress: &Progress) -> Result<Tally> {
    let plan = scenario.plan();
    let (region, view) = create(&scenario, &plan, path)?;
    let producers = (0..scenario.lanes).map(|_| Ok(Some(region.producer()?))).collect::<Result<_>>()?;
    let consumer = region.consumer()?;
    let hands = Handles { producers, consumer, is_bound: false };
    run_with(scenario, &plan, &view, hands, progress, || {})
}

/// Steps through one scenario with these hands; calls `arm` when its
/// operation comes.
pub(crate) fn run_with(
    scenario: Scenario,
    plan: &Plan,
    view: &View,
    mut hands: impl Hands,
    progress: &Progress,
    arm: impl FnOnce(),
) -> Result<Tally> {
    prepare(&scenario, plan, &mut OnLane { hands: &mut hands, lane: scenario.lane() })?;
    let mut states = States::new(&scenario, plan);
    let take = |steps: &[Step], hands: &mut dyn Hands, states: &mut States| {
        steps.iter().try_for_each(|step| hands.take(step).and_then(|()| states.take(step)))
    };
    take(&before(&scenario, plan), &mut hands, &mut states)?;
    if scenario.operation == Operation::TotalSend {
        check_believable(&scenario, plan, view)?;
    }
    states.begin();
    let steps = steps(&scenario, plan);
    steps.iter().try_for_each(|step| states.take(step))?;
    arm();

    let survivors = Crowd { scenario, plan, states: &states };
    let mut watch = Watch::new(scenario, &survivors, view);
    let operate = || steps.iter().try_for_each(|step| hands.take(step));
    each_instruction(progress, None, operate, |returned| watch.look(returned))?;
    Ok(watch.finish())
}

/// Lane 0's `i`th message, where the plan is about the other lane; or lane 1's.
fn other(plan: &Plan, i: usize) -> Vec<u8> {
    payload(plan.believable, i as u64, [16, 100, 9, 3][i])
}

/// The messages of the operation.
fn subjects(plan: &Plan) -> Vec<Vec<u8>> {
    let first = plan.first_sequence.wrapping_add(plan.pending.len() as u64);
    let sequences = (0..).map(|i| first.wrapping_add(i));
    sequences.zip(&plan.subjects).map(|(sequence, &len)| payload(plan.believable, sequence, len)).collect()
}

/// What is done before the operation, behind what the plan has.
fn before(scenario: &Scenario, plan: &Plan) -> Vec<Step> {
    let pending = plan.pending.len();
    match scenario.operation {
        Operation::TotalSend => vec![Step::Send(0, other(plan, 0))],
        Operation::DropMessage => vec![Step::Read(0, pending.min(1))],
        Operation::LanesCommit => {
            let mut steps = vec![Step::Commit(Some(7))];
            steps.extend((0..3).map(|i| Step::Send(1, other(plan, i))));
            steps.push(Step::Read(0, pending));
            steps
        }
        other => unreachable!("{} is no steps", other.name()),
    }
}

/// The operation.
fn steps(scenario: &Scenario, plan: &Plan) -> Vec<Step> {
    let subjects = subjects(plan);
    match scenario.operation {
        Operation::TotalSend => {
            let mut steps = vec![Step::Send(1, subjects[0].clone()), Step::Send(0, other(plan, 1))];
            steps.extend((0..scenario.drops()).map(|_| Step::Drop(1, Cause::Full)));
            steps.push(Step::Batch(1, subjects[1..].to_vec(), None));
            steps.push(Step::Send(0, other(plan, 2)));
            steps
        }
        Operation::DropMessage => {
            let fail = || (scenario.load == Load::Full).then(|| Step::Fail(0, subjects[0].clone()));
            let mut steps = vec![];
            steps.extend(fail());
            steps.extend([Step::Drop(0, Cause::Full), Step::Drop(0, Cause::Deadline)]);
            steps.extend(fail());
            if !plan.pending.is_empty() {
                steps.push(Step::Commit(None));
            }
            steps.push(Step::Send(0, subjects[0].clone()));
            steps.push(Step::Batch(0, subjects[1..].to_vec(), Some(Cause::Full)));
            steps.push(Step::Close(0));
            steps
        }
        Operation::LanesCommit if scenario.twisted() => vec![
            Step::Read(0, subjects.len()),
            Step::Read(1, 3),
            Step::Commit(Some(8)),
            // Only lane 0 moves; what lane 1 moved by lies in one slot yet.
            Step::Send(0, other(plan, 3)),
            Step::Read(0, 1),
            Step::Commit(Some(9)),
            Step::Commit(Some(10)),
        ],
        Operation::LanesCommit => vec![
            Step::Read(0, subjects.len()),
            Step::Read(1, 1),
            Step::Commit(Some(8)),
            // Only lane 1 moves.
            Step::Read(1, 1),
            Step::Commit(Some(9)),
            Step::Commit(Some(10)),
        ],
        other => unreachable!("{} is no steps", other.name()),
    }
}

/// Those who have one lane to themselves.
struct OnLane<'a, H> {
    hands: &'a mut H,
    lane: usize,
}

impl<H: Hands> Pair for OnLane<'_, H> {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        self.hands.take(&Step::Send(self.lane, message.to_vec()))
    }

    fn receive(&mut self) -> Result<()> {
        self.hands.take(&Step::Read(self.lane, 1))?;
        self.hands.take(&Step::Commit(None))
    }
}

/// The product: its own handles.
struct Handles {
    producers: Vec<Option<Producer>>,
    consumer: Consumer,
    is_bound: bool,
}

impl Handles {
    fn producer(&mut self, lane: usize) -> Result<&mut Producer> {
        let producer = self.producers[lane].as_mut().context("it was closed")?;
        ensure!(producer.lane() as usize == lane, "lane {lane} is another's");
        Ok(producer)
    }
}

impl Hands for Handles {
    fn take(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Send(lane, message) => self.producer(*lane)?.try_send(message)?,
            Step::Fail(lane, message) => match self.producer(*lane)?.try_send(message) {
                Err(SendError::Full) => {}
                other => bail!("instead of a full ring: {other:?}"),
            },
            Step::Batch(lane, messages, cause) => {
                let mut batch = self.producer(*lane)?.batch();
                messages.iter().try_for_each(|message| batch.try_push(message))?;
                match cause {
                    Some(cause) => batch.drop_message(*cause)?,
                    None => batch.publish(),
                }
            }
            Step::Drop(lane, cause) => self.producer(*lane)?.drop_message(*cause)?,
            Step::Read(lane, count) => {
                for _ in 0..*count {
                    match self.consumer.try_read()? {
                        Read::Message(message) if message.lane as usize == *lane => {}
                        other => bail!("instead of a message of lane {lane}: {other:?}"),
                    }
                }
            }
            Step::Commit(None) => self.consumer.commit(),
            Step::Commit(Some(position)) => {
                if !self.is_bound {
                    self.consumer.bind_sink(StreamId(SINK))?;
                    self.is_bound = true;
                }
                self.consumer.commit_at(*position);
            }
            Step::Close(lane) => self.producers[*lane].take().context("it was closed")?.close(),
        }
        Ok(())
    }
}
