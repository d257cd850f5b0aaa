//! What transcripts say, as far as each can be understood alone.

use std::str::{FromStr, SplitAsciiWhitespace};

use anyhow::{Context, Result, bail, ensure};

/// From the start of a process to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) started: u64,
    pub(super) pid: u64,
    /// Before it was killed, if it was.
    pub(super) killed: Option<u64>,
    /// After it was gone.
    pub(super) gone: u64,
}

#[derive(Debug)]
pub(super) struct Director {
    pub(super) is_total: bool,
    pub(super) lanes: usize,
    pub(super) first_sequence: u64,
    pub(super) producers: Vec<Life>,
    pub(super) consumers: Vec<Life>,
}

/// A message, or the place of one that was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    Message { len: u32, sum: u32, flags: u8 },
    Dropped,
}

/// What was to become of a send of several that was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// So many of them as there was time for.
    Some,
    /// One, sent or dropped.
    SentOrDropped,
    All,
}

/// A sequence that was taken, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) item: Item,
    /// It may have been dropped instead.
    pub(super) or_dropped: bool,
    /// Its producer, as an index.
    pub(super) producer: u32,
    /// Before it was sent.
    pub(super) begun: u64,
    /// After its send returned; the end of time, if it never did.
    pub(super) done: u64,
}

/// The last operation of one that was killed in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) kind: Kind,
    pub(super) begun: u64,
    pub(super) items: Vec<Item>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Attached {
    pub(super) stamp: u64,
    pub(super) lane: usize,
    pub(super) sequence: u64,
}

#[derive(Debug)]
pub(super) struct Producer {
    pub(super) life: Life,
    pub(super) name: Option<String>,
    pub(super) attached: Option<Attached>,
    /// Those that surely took a sequence.
    pub(super) sent: Vec<Entry>,
    pub(super) open: Option<Open>,
    /// Before it closed.
    pub(super) closing: Option<u64>,
    /// After it had closed.
    pub(super) closed: Option<u64>,
    /// Before it left without closing: killed, or by its own will.
    pub(super) died: Option<u64>,
    /// It never had a lane, and never will.
    pub(super) is_refused: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Death {
    pub(super) since: u64,
    pub(super) until: u64,
    pub(super) lane: usize,
    pub(super) sequence: u64,
    pub(super) pid: u64,
    pub(super) is_replaced: bool,
    pub(super) dropped: u64,
    pub(super) name: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Message { lane: u32, flags: u8, len: u32, sum: u32, sequence: u64 },
    Name(usize, Option<String>),
    Gap { lane: u32, sequence: u64, count: u64 },
    Died(Box<Death>),
    End { since: u64, until: u64 },
    Commit,
    Committed,
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) events: Vec<Event>,
    pub(super) is_finished: bool,
}

/// The words of a line.
struct Words<'a>(SplitAsciiWhitespace<'a>);

impl<'a> Words<'a> {
    fn word(&mut self) -> Result<&'a str> {
        self.0.next().context("a word is missing")
    }

    fn number<T: FromStr>(&mut self) -> Result<T> {
        parsed(self.word()?)
    }

    fn name(&mut self) -> Result<Option<String>> {
        Ok(Some(self.word()?.to_owned()).filter(|name| name != "-"))
    }

    fn end(mut self) -> Result<()> {
        self.0.next().map_or(Ok(()), |word| bail!("{word:?} is one word too many"))
    }
}

fn parsed<T: FromStr>(word: &str) -> Result<T> {
    word.parse().ok().with_context(|| format!("{word:?} is no such number"))
}

fn sum_of(word: &str) -> Result<u32> {
    u32::from_str_radix(word, 16).with_context(|| format!("{word:?} is no checksum"))
}

/// Gives each line to `take`, with its first word. The last line of one that
/// was killed may be cut off anywhere: then it is as if it were not there.
fn each_line<'a>(
    text: &'a str,
    was_killed: bool,
    mut take: impl FnMut(&'a str, Words<'a>) -> Result<()>,
) -> Result<()> {
    for (at, line) in text.split_inclusive('\n').enumerate() {
        if !line.ends_with('\n') {
            ensure!(was_killed, "the last line is cut off: {line:?}");
            break;
        }
        let mut words = Words(line.split_ascii_whitespace());
        let taken = words.word().and_then(|first| take(first, words));
        taken.with_context(|| format!("line {}: {:?}", at + 1, line.trim_end()))?;
    }
    Ok(())
}

impl Director {
    pub(super) fn parse(text: &str) -> Result<Director> {
        let mut is_over = false;
        let mut world = None;
        let mut lives = [Vec::<(Life, bool)>::new(), Vec::new()];
        each_line(text, false, |first, mut words| {
            ensure!(!is_over, "it was over");
            match first {
                "world" => {
                    let is_total = words.word()? == "total";
                    world = Some((is_total, words.number()?, words.number()?));
                    return words.end();
                }
                "over" => {
                    is_over = true;
                    return words.end();
                }
                _ => {}
            }
            let stamp = words.number()?;
            let who = words.word()?;
            let lives = &mut lives[usize::from(who.starts_with('c'))];
            let index: usize = parsed(&who[1..])?;
            if first == "start" {
                ensure!(index == lives.len(), "one came before");
                let life = Life { started: stamp, pid: words.number()?, killed: None, gone: 0 };
                lives.push((life, false));
                return words.end();
            }
            let (life, is_gone) = lives.get_mut(index).context("it was not started")?;
            ensure!(!*is_gone, "it was gone");
            match first {
                "kill" => life.killed = Some(stamp),
                "gone" => {
                    let was_killed = words.word()? == "killed";
                    ensure!(!was_killed || life.killed.is_some(), "killed by whom?");
                    life.killed = life.killed.filter(|_| was_killed);
                    (life.gone, *is_gone) = (stamp, true);
                }
                "stop" | "continue" => {}
                _ => bail!("what is that?"),
            }
            words.end()
        })?;
        ensure!(is_over, "it was not over");
        let (is_total, lanes, first_sequence) = world.context("no world")?;
        let [producers, consumers] = lives.map(|lives| -> Result<Vec<Life>> {
            ensure!(lives.iter().all(|(_, is_gone)| *is_gone), "somebody is not gone");
            Ok(lives.into_iter().map(|(life, _)| life).collect())
        });
        Ok(Director { is_total, lanes, first_sequence, producers: producers?, consumers: consumers? })
    }
}

fn item(word: &str) -> Result<Item> {
    if word == "d" {
        return Ok(Item::Dropped);
    }
    let mut parts = word.split(':');
    let mut part = || parts.next().context("a part of an item is missing");
    Ok(Item::Message { len: parsed(part()?)?, sum: sum_of(part()?)?, flags: parsed(part()?)? })
}

impl Producer {
    /// Whose its entries are is filled in by whoever knows.
    pub(super) fn parse(text: &str, life: Life) -> Result<Producer> {
        let mut it = Producer {
            life,
            name: None,
            attached: None,
            sent: Vec::new(),
            open: None,
            closing: None,
            closed: None,
            died: life.killed,
            is_refused: false,
        };
        let mut before = "";
        each_line(text, life.killed.is_some(), |first, words| {
            let may = match first {
                "begin" => before.is_empty(),
                "attached" | "refused" => before == "begin",
                "i" | "closing" | "abandon" => ["attached", "o"].contains(&before),
                "o" => before == "i",
                "closed" => before == "closing",
                _ => false,
            };
            ensure!(may, "after {before:?}?");
            before = first;
            it.take(first, words)
        })?;
        let is_whole = ["refused", "closed", "abandon"].contains(&before);
        ensure!(is_whole || life.killed.is_some(), "it left after {before:?}");
        Ok(it)
    }

    fn take(&mut self, first: &str, mut words: Words<'_>) -> Result<()> {
        if first == "refused" {
            self.is_refused = true;
            return words.end();
        }
        let stamp = words.number()?;
        match first {
            "begin" => self.name = words.name()?,
            "attached" => {
                self.attached = Some(Attached { stamp, lane: words.number()?, sequence: words.number()? });
            }
            "i" => {
                let kind = match words.word()? {
                    "s" | "w" => Kind::Some,
                    "o" => Kind::SentOrDropped,
                    "b" => Kind::All,
                    kind => bail!("no kind: {kind:?}"),
                };
                let items = words.0.by_ref().map(item).collect::<Result<_>>()?;
                self.open = Some(Open { kind, begun: stamp, items });
            }
            "o" => {
                let open = self.open.take().context("nothing was begun")?;
                let marks = words.0.next().unwrap_or_default();
                ensure!(marks.len() == open.items.len(), "not a mark an item");
                for (item, mark) in open.items.into_iter().zip(marks.bytes()) {
                    let item = match mark {
                        b'm' if item != Item::Dropped => item,
                        b'd' => Item::Dropped,
                        b'-' => continue,
                        _ => bail!("no mark for that: {:?}", mark as char),
                    };
                    let entry =
                        Entry { item, or_dropped: false, producer: 0, begun: open.begun, done: stamp };
                    self.sent.push(entry);
                }
            }
            "closing" => self.closing = Some(stamp),
            "closed" => self.closed = Some(stamp),
            "abandon" => self.died = Some(self.died.map_or(stamp, |killed| killed.min(stamp))),
            _ => bail!("what is that?"),
        }
        words.end()
    }
}

impl Consumer {
    pub(super) fn parse(text: &str, life: Life) -> Result<Consumer> {
        let mut events = Vec::new();
        let mut is_finished = false;
        let mut before = "";
        each_line(text, life.killed.is_some(), |first, mut words| {
            let may = match first {
                "begin" => before.is_empty(),
                "attached" => before == "begin",
                "k" => before == "c",
                // Whoever says that nothing is left has committed.
                "finished" => ["attached", "k"].contains(&before),
                _ => !["", "begin", "c", "closed", "finished"].contains(&before),
            };
            ensure!(may, "after {before:?}?");
            before = first;
            events.push(match first {
                "m" => {
                    let (lane, sequence, len) = (words.number()?, words.number()?, words.number()?);
                    Event::Message {
                        lane,
                        sequence,
                        len,
                        sum: sum_of(words.word()?)?,
                        flags: words.number()?,
                    }
                }
                "n" => Event::Name(words.number()?, words.name()?),
                "g" => {
                    Event::Gap { lane: words.number()?, sequence: words.number()?, count: words.number()? }
                }
                "d" => Event::Died(Box::new(Death {
                    since: words.number()?,
                    until: words.number()?,
                    lane: words.number()?,
                    sequence: words.number()?,
                    pid: words.number()?,
                    is_replaced: words.number::<u8>()? == 1,
                    dropped: words.number()?,
                    name: words.name()?,
                })),
                "e" => Event::End { since: words.number()?, until: words.number()? },
                "c" => Event::Commit,
                "k" => Event::Committed,
                "begin" | "attached" => return words.number::<u64>().and_then(|_| words.end()),
                "closed" => return words.end(),
                "finished" => {
                    is_finished = true;
                    return words.end();
                }
                _ => bail!("what is that?"),
            });
            words.end()
        })?;
        let is_whole = ["closed", "finished"].contains(&before);
        ensure!(is_whole || life.killed.is_some(), "it left after {before:?}");
        Ok(Consumer { events, is_finished })
    }
}
