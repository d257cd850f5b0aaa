use anyhow::{Context, Result, bail, ensure};
use bench_kit::{Plan, Receiver, Sender, Transport, buffer};
use nix::errno::Errno;
use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_open, mq_receive, mq_send, mq_unlink};
use nix::sys::stat::Mode;

/// A POSIX message queue, all messages with one priority, with as many places as
/// the system allows.
pub(crate) struct MessageQueue;

pub(crate) struct QueueSender(MqdT);

pub(crate) struct QueueReceiver {
    queue: MqdT,
    name: Option<Name>,
    message: &'static mut [u8],
}

/// Of a queue; gone from the system when this is dropped.
struct Name(String);

impl Drop for Name {
    fn drop(&mut self) {
        // It may be gone, and nobody can be told.
        let _ = mq_unlink(self.0.as_str());
    }
}

impl MessageQueue {
    /// Refuses messages that the system does not allow.
    pub(crate) fn can(plan: &Plan) -> Result<()> {
        let most = limit("msgsize_max")?;
        ensure!(
            plan.size as i64 <= most,
            "{} bytes are more than /proc/sys/fs/mqueue/msgsize_max, {most}",
            plan.size
        );
        Ok(())
    }
}

fn limit(name: &str) -> Result<i64> {
    let path = format!("/proc/sys/fs/mqueue/{name}");
    let text = std::fs::read_to_string(&path).with_context(|| format!("no message queues here: {path}"))?;
    text.trim().parse().with_context(|| path)
}

/// Of this round only: the folder has a name that nobody else has.
fn name_of(plan: &Plan, name: &str) -> Result<String> {
    let folder = plan.place.file_name().and_then(|name| name.to_str()).context("the folder has a name")?;
    Ok(format!("/{folder}-{name}"))
}

/// Makes a queue with as many places as are allowed, and says how many. What all
/// queues of a user may hold (`ulimit -q`) can allow fewer than the system does.
fn make(name: &str, size: usize) -> Result<(MqdT, i64)> {
    let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDONLY;
    let mut places = limit("msg_max")?;
    loop {
        let attributes = MqAttr::new(0, places, size as i64, 0);
        match mq_open(name, flags, Mode::S_IRUSR | Mode::S_IWUSR, Some(&attributes)) {
            Ok(queue) => return Ok((queue, places)),
            Err(Errno::EMFILE) if places > 1 => places /= 2,
            Err(error) => bail!("a message queue with {places} places of {size} bytes: {error}"),
        }
    }
}

impl Transport for MessageQueue {
    type Sender = QueueSender;
    type Receiver = QueueReceiver;

    fn describe(plan: &Plan) -> String {
        super::words(Self::can(plan).and_then(|()| {
            let places = limit("msg_max")?;
            Ok(format!("POSIX mq, at most {places} messages of {} bytes, one priority", plan.size))
        }))
    }

    fn receiver(plan: &Plan, name: &str) -> Result<QueueReceiver> {
        MessageQueue::can(plan)?;
        let name = name_of(plan, name)?;
        let (queue, _) = make(&name, plan.size)?;
        Ok(QueueReceiver { queue, name: Some(Name(name)), message: buffer(plan.size) })
    }

    fn sender(plan: &Plan, name: &str) -> Result<QueueSender> {
        let name = name_of(plan, name)?;
        let queue = mq_open(name.as_str(), MQ_OFlag::O_WRONLY, Mode::empty(), None);
        Ok(QueueSender(queue.with_context(|| name)?))
    }
}

impl Sender for QueueSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(mq_send(&self.0, message, 0)?)
    }
}

impl Receiver for QueueReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        // All are connected by now. A side is killed in the end, so the name goes
        // as early as it can.
        self.name = None;
        let len = mq_receive(&self.queue, self.message, &mut 0)?;
        Ok(look(&self.message[..len]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{exchange, plan};

    #[test]
    fn messages_come_from_one_sender_and_from_many() {
        if limit("msg_max").is_err() {
            eprintln!("skipped: no message queues here");
            return;
        }
        exchange::<MessageQueue>(&plan(8, 2000, 1));
        let mut several = plan(1000, 1000, 1);
        several.settings.senders = 4;
        exchange::<MessageQueue>(&several);
    }

    #[test]
    fn no_name_is_left() -> Result<()> {
        if limit("msg_max").is_err() {
            eprintln!("skipped: no message queues here");
            return Ok(());
        }
        let place = tempfile::tempdir()?;
        let mut plan = plan(8, 1, 1);
        plan.place = place.path().to_owned();
        let mut receiver = MessageQueue::receiver(&plan, "there")?;
        let mut sender = MessageQueue::sender(&plan, "there")?;
        sender.send(&[7; 8])?;
        receiver.receive(|message| assert_eq!(message, [7; 8]))?;
        assert!(MessageQueue::sender(&plan, "there").is_err());
        drop(MessageQueue::receiver(&plan, "back")?);
        assert!(MessageQueue::sender(&plan, "back").is_err());
        plan.size = limit("msgsize_max")? as usize + 1;
        assert!(MessageQueue::receiver(&plan, "there").is_err());
        Ok(())
    }
}
