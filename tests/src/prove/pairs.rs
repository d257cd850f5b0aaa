//! Two who die: the second in an operation on what the first one left, at any
//! instruction of the first one's.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use shmring::internals::layout::Word;
use shmring::internals::ring::{Shape, Writer};
use shmring::{Read, SendError};

use super::expected::{Found, READS};
use super::plant::{Plant, Planted, take_over};
use super::product::{Product, Stage, find_focus};
use super::replica::Replica;
use super::scenario::{Load, Operation, ROUND, Scenario, payload};
use super::survivors::OneLane;
use super::trace::{Progress, each_instruction};
use super::view::{Image, LaneView};
use super::watch::{Tally, Watch};

/// What the first one does, and the second. A second one that takes over or
/// attaches goes on with a message or two; one that sends or reads was there all
/// the time.
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

/// Who is the second one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Second {
    /// The product.
    Product,
    /// A ring that takes over, with this bug, or as a control without.
    Rings(Option<Plant>),
}

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
    who: Second,
    number: usize,
    is_short: bool,
    path: &Path,
    progress: &Progress,
) -> Result<Tally> {
    let scenario = Scenario::new(first, number);
    let mut plan = scenario.plan();
    let sends = matches!(second, Operation::Takeover | Operation::Send);
    // Behind the end mark of a full ring there is no room for it.
    let has_room = first.publishes() || scenario.load != Load::Full;
    if sends && has_room {
        // It is the one who must set the word behind its message to zero.
        let size = |len: usize| scenario.shape().record_size(len as u64);
        let lost = if first.publishes() { &plan.subjects[..] } else { &[] };
        let tail = plan.end.wrapping_sub(lost.iter().map(|&len| size(len)).sum());
        plan.end = tail.wrapping_add(size(LEN));
        plan.believable = plan.believable.wrapping_sub(lost.len() as u64).wrapping_add(1);
    }
    let mut stage = Stage::with_plan(scenario, plan, path)?;
    let (first_tally, left) = first_deaths(&mut stage, progress)?;

    stage.product.leave_to(second, stage.plan.pending.len())?;
    let count = if is_short { FEW_IMAGES.min(left.len()) } else { left.len() };
    let mut tally = first_tally.only_violations();
    for i in 0..count {
        // Spread over all, the first and the last among them.
        let i = i * (left.len() - 1) / (count - 1).max(1);
        let (image, found) = &left[i];
        let is_whole = !is_short && number == 0 && i == 0;
        let mut one = second_deaths(&mut stage, (second, who), (image, *found), is_whole, progress)
            .with_context(|| format!("after the image {i} of the first"))?;
        if let Some(violation) = &mut one.first_violation {
            violation.push_str(&format!(", after another died in {} at its image {i}", first.name()));
        }
        tally.add(&one);
    }
    Ok(tally)
}

/// All images that the first one's death may leave, and what is found there.
fn first_deaths(stage: &mut Stage, progress: &Progress) -> Result<(Tally, Vec<(Image, Found)>)> {
    let Stage { scenario, view, product, expected, .. } = stage;
    let subjects = expected.subjects();
    let mut operate = || product.operate(scenario, subjects);
    let focus = match scenario.operation.attaches() {
        true => Some(find_focus(view, progress, &mut operate)?),
        false => None,
    };
    let survivors = OneLane { shape: scenario.shape(), expected, plant: None };
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
    Ok((watch.finish(), left))
}

fn second_deaths(
    stage: &mut Stage,
    (second, who): (Operation, Second),
    (image, found): (&Image, Found),
    is_whole: bool,
    progress: &Progress,
) -> Result<Tally> {
    let Stage { scenario, plan, view, product, expected } = stage;
    view.restore(image)?;
    let scenario = scenario.followed_by(second);
    let mut expected = expected.behind(found)?;
    let message = payload(plan.believable, expected.first.wrapping_add(found.published as u64), LEN);
    let is_full = is_full(scenario.shape(), image)?;
    // Not those that take tens of thousands of instructions to copy; and not
    // without the file that they belong to.
    let is_slow = matches!(scenario.load, Load::Eighth | Load::Full) || expected.file.is_some();
    let reads = if is_slow { 0 } else { READS };
    match second {
        Operation::ReadCommit => expected.committed[1] = found.published.min(plan.pending.len() + READS),
        Operation::ConsumerAttach => expected.committed[1] = found.published.min(found.committed + reads),
        _ if !is_full => {
            expected.messages.truncate(found.published);
            expected.messages.push(message.clone());
            expected.published[1] += 1;
        }
        _ => {}
    }
    let mut operate = || match second {
        Operation::Takeover if let Second::Rings(plant) = who => {
            take_over_and_send(Planted::new(view.lane(0), scenario.shape(), plant), &message, is_full)
        }
        Operation::ReadCommit => product.read_few(READS),
        Operation::ConsumerAttach => {
            product.operate(&scenario, &[])?;
            product.read_few(reads)
        }
        Operation::Takeover => {
            product.operate(&scenario, &[])?;
            product.send_if_room(&message, is_full)
        }
        _ => product.send_if_room(&message, is_full),
    };
    let focus = match second.attaches() && !is_whole {
        true => Some(find_focus(view, progress, &mut operate)?),
        false => None,
    };
    let survivors = OneLane { shape: scenario.shape(), expected: &expected, plant: None };
    let mut watch = Watch::new(scenario, &survivors, view);
    each_instruction(progress, focus.as_ref(), operate, |returned| watch.look(returned))?;
    Ok(watch.finish())
}

/// What a takeover by the product and a message do to a lane, done by a ring alone.
fn take_over_and_send(memory: Planted<LaneView<'_>>, message: &[u8], is_full: bool) -> Result<()> {
    memory.arm();
    let shape = memory.shape();
    let mut writer = take_over(memory, shape)?;
    if !is_full {
        writer.claim(message.len()).map_err(|claim| anyhow!("no room: {claim:?}"))?;
        writer.write(0, message);
        writer.stage(0, message.len());
        writer.publish();
    }
    Ok(())
}

/// True if there is no room for the second one's message.
fn is_full(shape: Shape, image: &Image) -> Result<bool> {
    let replica = Replica::new(image);
    let writer = Writer::take_over(replica.lane(0), shape)?;
    let missing = writer.head_needed(LEN).wrapping_sub(image.word(0, Word::Head));
    Ok(missing != 0 && missing <= shape.capacity)
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
    fn read_few(&mut self, most: usize) -> Result<()> {
        let consumer = self.consumer.as_mut().expect("attached");
        for _ in 0..most {
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
