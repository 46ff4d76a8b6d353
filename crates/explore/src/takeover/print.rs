//! The print of a part of a state: the hash of everything that is said of it when it is written down.
//!
//! A machine that is written down is read back as it was: recordings rest on that (docs/decisions/0029). So what it is written as says all
//! that it is, and two that are written alike decide alike for ever. Taking the bytes as they come, without names or text, costs a
//! tenth of writing it out for people.

use std::fmt::{self, Debug, Display, Write};
use std::hash::{DefaultHasher, Hasher};

use serde::Serialize;
use serde::ser::{self, Serializer};

/// What no decision reads again, and no property after the commit that makes it: two states that differ in it alone have the same future.
///
/// The record of a takeover says for people why it was, who was asked and said what, what was proven when; that the right agent was chosen
/// is asked when the record is made. The number of a beat is for the connection, which answers it; there is none here.
const DEAD: &[(&str, &[&str])] = &[
    (
        "TakeoverRecord",
        &[
            "evidence",
            "verdicts",
            "candidates",
            "awaited",
            "proven",
            "unproven",
            "resumed_seq",
            "reported_seq",
            "first_durable_write_at",
            "copied_again_bytes",
        ],
    ),
    ("Beat", &["number"]),
    ("Heartbeat", &["number"]),
];

/// What the next number will be. Numbers are compared with each other and nothing else is done with them, and the next one is larger than
/// all that anybody knows: two states that know the same numbers and differ in the next one have the same future but for its name.
const COUNTERS: &[(&str, &[&str])] = &[("ServerMachine", &["next_survey"]), ("Supervision", &["order_number"])];

/// The print of a part: what it is to itself, and what it is in a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Print {
    /// With its counters: what it decides follows from it to the letter.
    pub whole: u64,
    /// Without: what can become of the state follows from it, up to names.
    pub view: u64,
}

/// The print of what can be written down. Of what says that it cannot, half would pass for the whole: that is taken by its `Debug` form.
pub fn print_of(value: &(impl Serialize + Debug)) -> Print {
    let mut printer = Printer::new();
    match value.serialize(&mut printer) {
        Ok(()) => printer.finish(),
        Err(Unprintable) => print_of_debug(value),
    }
}

/// The print of a `Debug` form, of what is never written down.
pub fn print_of_debug(value: &impl Debug) -> Print {
    let mut printer = Printer::new();
    let _ = write!(printer, "{value:?}");
    printer.finish()
}

/// Takes bytes, a buffer at a time.
#[derive(Debug)]
pub struct Printer {
    hasher: DefaultHasher,
    buffer: [u8; 512],
    filled: usize,
    counters: DefaultHasher,
    /// What is taken now belongs to a counter.
    counts: bool,
}

impl Printer {
    fn new() -> Self {
        let (hasher, counters) = (DefaultHasher::new(), DefaultHasher::new());
        Self { hasher, buffer: [0; 512], filled: 0, counters, counts: false }
    }

    fn empty(&mut self) {
        self.hasher.write(&self.buffer[..self.filled]);
        self.filled = 0;
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.counts {
            return self.counters.write(bytes);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.filled == self.buffer.len() {
                self.empty();
            }
            let (now, later) = rest.split_at(rest.len().min(self.buffer.len() - self.filled));
            self.buffer[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            rest = later;
        }
    }

    /// A number that says how what follows is to be read: how long it is, or which of several it is.
    fn mark(&mut self, mark: usize) -> Result<&mut Self, Unprintable> {
        self.take(&(mark as u64).to_le_bytes());
        Ok(self)
    }

    fn finish(mut self) -> Print {
        self.empty();
        let view = self.hasher.finish();
        self.counters.write_u64(view);
        Print { whole: self.counters.finish(), view }
    }
}

impl Write for Printer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.take(text.as_bytes());
        Ok(())
    }
}

/// Something that says that it cannot be written down.
#[derive(Debug)]
pub struct Unprintable;

impl Display for Unprintable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of a state cannot be written down")
    }
}

impl std::error::Error for Unprintable {}

impl ser::Error for Unprintable {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

/// What has fields: some are left out, and some count.
#[derive(Debug)]
pub struct Fields<'a> {
    printer: &'a mut Printer,
    dead: &'static [&'static str],
    counters: &'static [&'static str],
}

fn fields_of(name: &str, known: &'static [(&str, &[&str])]) -> &'static [&'static str] {
    known.iter().find(|(known, _)| *known == name).map_or(&[], |(_, fields)| fields)
}

/// What has an end that is not known at its beginning says where it ends.
const END: usize = usize::MAX;
const NEXT: usize = usize::MAX - 1;

macro_rules! bytes_of {
    ($($method:ident: $type:ty,)*) => {
        $(fn $method(self, value: $type) -> Result<(), Unprintable> {
            self.take(&value.to_le_bytes());
            Ok(())
        })*
    };
}

impl<'a> Serializer for &'a mut Printer {
    type Ok = ();
    type Error = Unprintable;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    bytes_of! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64,
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, value: bool) -> Result<(), Unprintable> {
        self.serialize_u8(u8::from(value))
    }

    fn serialize_char(self, value: char) -> Result<(), Unprintable> {
        self.serialize_u32(value.into())
    }

    fn serialize_str(self, value: &str) -> Result<(), Unprintable> {
        self.serialize_bytes(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Unprintable> {
        self.mark(value.len())?.take(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Unprintable> {
        self.serialize_u8(0)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unprintable> {
        self.serialize_u8(1)?;
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Unprintable> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unprintable> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), Unprintable> {
        self.serialize_u32(index)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Unprintable> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unprintable> {
        self.serialize_u32(index)?;
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Unprintable> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Unprintable> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Unprintable> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Unprintable> {
        self.serialize_u32(index)?;
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Unprintable> {
        Ok(self)
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Fields<'a>, Unprintable> {
        Ok(Fields { printer: self, dead: fields_of(name, DEAD), counters: fields_of(name, COUNTERS) })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Fields<'a>, Unprintable> {
        self.serialize_u32(index)?;
        Ok(Fields { printer: self, dead: &[], counters: &[] })
    }
}

impl ser::SerializeSeq for &mut Printer {
    type Ok = ();
    type Error = Unprintable;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unprintable> {
        value.serialize(self.mark(NEXT)?)
    }

    fn end(self) -> Result<(), Unprintable> {
        self.mark(END).map(drop)
    }
}

impl ser::SerializeMap for &mut Printer {
    type Ok = ();
    type Error = Unprintable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unprintable> {
        key.serialize(self.mark(NEXT)?)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unprintable> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Unprintable> {
        self.mark(END).map(drop)
    }
}

/// As many as their type says: they need no marks.
macro_rules! as_many_as_ever {
    ($($trait:ident: $method:ident,)*) => {
        $(impl ser::$trait for &mut Printer {
            type Ok = ();
            type Error = Unprintable;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unprintable> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), Unprintable> {
                Ok(())
            }
        })*
    };
}

as_many_as_ever! {
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! by_name {
    ($($trait:ident,)*) => {
        $(impl ser::$trait for Fields<'_> {
            type Ok = ();
            type Error = Unprintable;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Unprintable> {
                if self.dead.contains(&name) {
                    return Ok(());
                }
                let before = self.printer.counts;
                self.printer.counts = before || self.counters.contains(&name);
                let taken = value.serialize(&mut *self.printer);
                self.printer.counts = before;
                taken
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), Unprintable> {
                // It is not there, and that is another state than any in which it is.
                self.printer.serialize_str(name)
            }

            fn end(self) -> Result<(), Unprintable> {
                Ok(())
            }
        })*
    };
}

by_name! { SerializeStruct, SerializeStructVariant, }

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the names that the lists above know.
    #[derive(Clone, Debug, Default, Serialize)]
    struct TakeoverRecord {
        to: u8,
        evidence: String,
    }

    #[derive(Clone, Debug, Default, Serialize)]
    struct ServerMachine {
        record: TakeoverRecord,
        next_survey: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        left: Option<u8>,
        right: Option<u8>,
    }

    #[test]
    fn what_is_written_alike_has_one_print_and_what_is_not_has_two() {
        assert_eq!(print_of(&vec![1u8, 2]), print_of(&vec![1u8, 2]));
        let other: [&dyn Fn() -> Print; 7] = [
            &|| print_of(&vec![vec![1u8], vec![2]]),
            &|| print_of(&vec![vec![1u8, 2], vec![]]),
            &|| print_of(&vec![vec![], vec![1u8, 2]]),
            &|| print_of(&("1", "2")),
            &|| print_of(&("12", "")),
            &|| print_of(&ServerMachine { left: Some(0), ..ServerMachine::default() }),
            &|| print_of(&ServerMachine { right: Some(0), ..ServerMachine::default() }),
        ];
        let prints: std::collections::BTreeSet<u64> = other.iter().map(|print| print().view).collect();
        assert_eq!(prints.len(), other.len());
    }

    #[test]
    fn what_is_dead_is_in_no_print_and_a_counter_in_that_of_the_whole() {
        let plain = ServerMachine::default();
        let told = TakeoverRecord { evidence: "it is over".to_owned(), ..TakeoverRecord::default() };
        assert_eq!(print_of(&plain), print_of(&ServerMachine { record: told, ..plain.clone() }));
        let chosen = TakeoverRecord { to: 1, ..TakeoverRecord::default() };
        assert_ne!(print_of(&plain).view, print_of(&ServerMachine { record: chosen, ..plain.clone() }).view);
        let counted = print_of(&ServerMachine { next_survey: 1, ..plain.clone() });
        assert_eq!(counted.view, print_of(&plain).view);
        assert_ne!(counted.whole, print_of(&plain).whole);
    }
}
