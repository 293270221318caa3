//! The bytes of a body: a kind, and the fields that it has.

use super::header;
use super::{Generation, NUMBER_MAX, Preface, Purge, Record, StoredPublication, StoredTop};
use crate::broker::history::Gap;

const PUBLICATION: u8 = 1;
const PREFACE: u8 = 2;
const TOP: u8 = 3;
const PURGE: u8 = 4;
const SKIP: u8 = 5;
const SEAL: u8 = 6;

/// Set in a publication's flags if the batch goes on.
const CONTINUES: u8 = 1;

/// Set in a publication's flags if its epoch takes over.
const TAKES_OVER: u8 = 2;

impl<'a> Record<'a> {
    /// Appends the record's bytes, and returns its checksum: the tag of a publication.
    pub(in super::super::super) fn write(&self, out: &mut Vec<u8>) -> u32 {
        header::write(out, |out| match self {
            Self::Publication(publication) => publication.write_body(out),
            Self::Preface(preface) => {
                out.push(PREFACE);
                write_numbers(&[preface.next, preface.begins, preface.floor], out);
                for generation in &preface.generations {
                    write_numbers(&[generation.id, generation.first, generation.layout], out);
                }
            }
            Self::Top(top) => {
                out.push(TOP);
                write_numbers(&[top.epoch, top.next_offset, top.last], out);
                out.extend_from_slice(&top.tag.to_le_bytes());
                out.push(code_of(top.loss));
                out.extend_from_slice(top.channel.as_bytes());
            }
            Self::Purge(purge) => {
                out.push(PURGE);
                write_numbers(&[purge.sequence, purge.epoch], out);
                out.extend_from_slice(purge.channel.as_bytes());
            }
            Self::Skip { from, to } => {
                out.push(SKIP);
                write_numbers(&[*from, *to], out);
            }
            Self::Seal { next } => {
                out.push(SEAL);
                write_numbers(&[*next], out);
            }
        })
    }

    /// `None` if it is no body of ours.
    pub(super) fn read_body(body: &'a [u8]) -> Option<Self> {
        let mut fields = Fields { rest: body };
        let [kind] = fields.array::<1>()?;
        let record = match kind {
            PUBLICATION => Self::Publication(StoredPublication::read(&mut fields)?),
            PREFACE => {
                let (next, begins, floor) = (fields.number()?, fields.number()?, fields.number()?);
                let mut generations = Vec::new();
                while !fields.rest.is_empty() {
                    generations.push(Generation {
                        id: fields.u64()?,
                        first: fields.number()?,
                        layout: fields.u64()?,
                    });
                }
                Self::Preface(Preface { next, begins, floor, generations })
            }
            TOP => Self::Top(StoredTop {
                epoch: fields.u64()?,
                next_offset: fields.number().filter(|next| *next > 0)?,
                last: fields.counted()?,
                tag: u32::from_le_bytes(fields.array()?),
                loss: fields.array::<1>().and_then(|[code]| loss_of(code))?,
                channel: std::str::from_utf8(fields.take_rest()).ok()?,
            }),
            PURGE => Self::Purge(Purge {
                sequence: fields.counted()?,
                epoch: fields.u64()?,
                channel: std::str::from_utf8(fields.take_rest()).ok()?,
            }),
            SKIP => Self::Skip { from: fields.number()?, to: fields.number()? },
            SEAL => Self::Seal { next: fields.number()? },
            _ => return None,
        };
        fields.rest.is_empty().then_some(record)
    }
}

impl<'a> StoredPublication<'a> {
    fn write_body(&self, out: &mut Vec<u8>) {
        let continues = if self.continues { CONTINUES } else { 0 };
        let takes_over = if self.takes_over { TAKES_OVER } else { 0 };
        out.extend_from_slice(&[PUBLICATION, continues | takes_over]);
        write_numbers(
            &[self.sequence, self.previous, self.published_at, self.expires_at, self.epoch, self.offset],
            out,
        );
        write_text(self.channel, out);
        write_text(self.event, out);
        match self.idempotency {
            None => write_text("", out),
            Some((key, fingerprint)) => {
                write_text(key, out);
                out.extend_from_slice(&fingerprint);
            }
        }
        out.extend_from_slice(self.data);
    }

    fn read(fields: &mut Fields<'a>) -> Option<Self> {
        let [flags] = fields.array()?;
        Some(Self {
            continues: flags & CONTINUES != 0,
            takes_over: flags & TAKES_OVER != 0,
            sequence: fields.counted()?,
            previous: fields.number()?,
            published_at: fields.number()?,
            expires_at: fields.u64()?,
            epoch: fields.u64()?,
            offset: fields.counted().filter(|offset| *offset > 0)?,
            channel: fields.text()?,
            event: fields.text()?,
            idempotency: match fields.text()? {
                "" => None,
                key => Some((key, fields.array()?)),
            },
            data: fields.take_rest(),
        })
    }
}

fn write_numbers(numbers: &[u64], out: &mut Vec<u8>) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("names and keys are limited");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// How a loss is written down.
fn code_of(loss: Gap) -> u8 {
    match loss {
        Gap::NoHistory => 2,
        Gap::Epoch => 1,
        _ => 0,
    }
}

fn loss_of(code: u8) -> Option<Gap> {
    [Gap::Trimmed, Gap::Epoch, Gap::NoHistory].get(usize::from(code)).copied()
}

/// Walks over a body.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn number(&mut self) -> Option<u64> {
        self.u64().filter(|number| *number < NUMBER_MAX)
    }

    /// One that another one follows.
    fn counted(&mut self) -> Option<u64> {
        self.number().filter(|number| number + 1 < NUMBER_MAX)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        std::str::from_utf8(text).ok()
    }

    fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}
