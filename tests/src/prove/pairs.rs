//! Two who die: the second in an operation on what the first one left, at any
//! instruction of the first one's.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use shmring::internals::layout::Word;
use shmring::{Read, SendError};

use super::expected::{Found, READS};
use super::product::{Product, Stage, check_believable, find_focus};
use super::scenario::{CAPACITY, Load, Operation, ROUND, Scenario, payload};
use super::survivors::OneLane;
use super::trace::{Progress, each_instruction};
use super::view::Image;
use super::watch::{Tally, Watch};

/// What the first one does, and the second. Who sends or reads as the second
/// was there all the time.
pub(crate) const PAIRS: [(Operation, Operation); 16] = {
    use Operation::*;
    [
        (Send, Takeover),
        (ReserveCommit, Takeover),
        (Batch, Takeover),
        (Close, Takeover),
        (Takeover, Takeover),
        (FirstProducer, Takeover),
        (NextProducer, Takeover),
        (ReadCommit, Takeover),
        (Send, ConsumerAttach),
        (ReadCommit, ConsumerAttach),
        (FileCommit, ConsumerAttach),
        (ConsumerAttach, ConsumerAttach),
        (Send, ReadCommit),
        (Batch, ReadCommit),
        (ReadCommit, Send),
        (ConsumerAttach, Send),
    ]
};

/// Scenarios and images of each that are enough in the short form.
const FEW_SCENARIOS: usize = 3;
const FEW_IMAGES: usize = 5;

/// Length of the message that is sent by a second one.
const LEN: usize = 24;

/// The numbers of the scenarios of the `i`th pair: one of each length, or a few
/// with different loads, others for each pair.
pub(crate) fn numbers(i: usize, is_short: bool) -> impl Iterator<Item = usize> {
    let (count, step) = if is_short { (FEW_SCENARIOS, ROUND / FEW_SCENARIOS) } else { (ROUND, 1) };
    (0..count).map(move |number| (i + number * step) % ROUND)
}

/// Steps through the first one's operation, and on what it leaves, each time it
/// is another image, through the second one's: in the short form on a few
/// images, spread over all, the first and the last among them. Only the second
/// one's instructions are counted; of one that attaches, but for once in the long
/// form, those where the lane changes.
pub(crate) fn run(
    (first, second): (Operation, Operation),
    number: usize,
    is_short: bool,
    path: &Path,
    progress: &Progress,
) -> Result<Tally> {
    let scenario = Scenario::new(first, number);
    let mut plan = scenario.plan();
    if second == Operation::Send {
        // It is the one who must set the word behind its message to zero.
        plan.end = plan.end.wrapping_add(scenario.shape().record_size(LEN as u64));
        plan.believable = plan.believable.wrapping_add(1);
    }
    let mut stage = Stage::with_plan(scenario, plan, path)?;
    if second == Operation::Send && scenario.load != Load::Full {
        check_believable(&scenario, &stage.plan, &stage.view)?;
    }
    let left = first_deaths(&mut stage, progress)?;

    stage.product.leave_to(second, stage.plan.pending.len())?;
    let count = if is_short { FEW_IMAGES.min(left.len()) } else { left.len() };
    let mut tally = Tally::default();
    for i in 0..count {
        let i = i * (left.len() - 1) / (count - 1).max(1);
        let (image, found) = &left[i];
        let is_whole = !is_short && number == 0 && i == 0;
        let mut one = second_deaths(&mut stage, second, (image, *found), is_whole, progress)
            .with_context(|| format!("after the image {i} of the first"))?;
        if let Some(violation) = &mut one.first_violation {
            violation.push_str(&format!(", after another died in {} at its image {i}", first.name()));
        }
        tally.add(&one);
    }
    Ok(tally)
}

/// All images that the first one's death may leave, and what is found there.
fn first_deaths(stage: &mut Stage, progress: &Progress) -> Result<Vec<(Image, Found)>> {
    let Stage { scenario, view, product, expected, .. } = stage;
    let subjects = expected.subjects();
    let mut operate = || product.operate(scenario, subjects);
    let focus = match scenario.operation.attaches() {
        true => Some(find_focus(view, progress, &mut operate)?),
        false => None,
    };
    let survivors = OneLane { shape: scenario.shape(), expected, trusts_hints: false };
    let mut watch = Watch::new(*scenario, &survivors, view);
    let mut left: Vec<(Image, Found)> = vec![];
    each_instruction(progress, focus.as_ref(), operate, |returned| {
        watch.look(returned)?;
        if let Some(found) = watch.found()
            && left.len() < watch.images()
        {
            left.push((watch.image().clone(), *found));
        }
        Ok(())
    })?;
    let tally = watch.finish();
    ensure!(tally.violations == 0, "the first of two: {:?}", tally.first_violation);
    Ok(left)
}

fn second_deaths(
    stage: &mut Stage,
    second: Operation,
    (image, found): (&Image, Found),
    is_whole: bool,
    progress: &Progress,
) -> Result<Tally> {
    let Stage { scenario, plan, view, product, expected } = stage;
    view.restore(image)?;
    let scenario = scenario.followed_by(second);
    let mut expected = expected.behind(found)?;
    let message = payload(plan.believable, expected.first.wrapping_add(found.published as u64), LEN);
    // Either nothing is free or nearly all is: what was committed makes room at
    // the head word's last move.
    let is_full = plan.end.wrapping_sub(image.word(0, Word::Head)) > CAPACITY / 2;
    match second {
        Operation::ReadCommit => expected.committed[1] = found.published.min(plan.pending.len() + READS),
        Operation::Send if !is_full => {
            expected.messages.push(message.clone());
            expected.published[1] += 1;
        }
        _ => {}
    }
    let mut operate = || match second {
        Operation::ReadCommit => product.read_few(),
        Operation::Send => product.send_if_room(&message, is_full),
        _ => product.operate(&scenario, &[]),
    };
    let focus = match second.attaches() && !is_whole {
        true => Some(find_focus(view, progress, &mut operate)?),
        false => None,
    };
    let survivors = OneLane { shape: scenario.shape(), expected: &expected, trusts_hints: false };
    let mut watch = Watch::new(scenario, &survivors, view);
    each_instruction(progress, focus.as_ref(), operate, |returned| watch.look(returned))?;
    Ok(watch.finish())
}

impl Product {
    /// Lets go of what the second one takes. A reader has read what there was
    /// before the first one, and has not committed it.
    fn leave_to(&mut self, second: Operation, pending: usize) -> Result<()> {
        match second {
            Operation::Takeover => {
                if let Some(producer) = self.producer.take() {
                    producer.abandon();
                }
            }
            Operation::ConsumerAttach => drop(self.consumer.take()),
            Operation::ReadCommit => self.read(pending)?,
            _ => {}
        }
        Ok(())
    }

    /// Reads a few messages, if there are any, and commits.
    fn read_few(&mut self) -> Result<()> {
        let consumer = self.consumer.as_mut().expect("attached");
        for _ in 0..READS {
            match consumer.try_read()? {
                Read::Message(_) => {}
                Read::Empty => break,
                other => bail!("instead of a message: {other:?}"),
            }
        }
        consumer.commit();
        Ok(())
    }

    fn send_if_room(&mut self, message: &[u8], is_full: bool) -> Result<()> {
        match self.producer.as_mut().expect("attached").try_send(message) {
            Ok(()) if !is_full => Ok(()),
            Err(SendError::Full) if is_full => Ok(()),
            other => bail!("the ring is {}: {other:?}", if is_full { "full" } else { "not full" }),
        }
    }
}
