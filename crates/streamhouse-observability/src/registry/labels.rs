//! Labels as types: a family's key is a tuple of values that compare exactly.
//!
//! Two label sets are the same series only if they are equal value by value; nothing is hashed
//! together, so (`orders1`, `1`) and (`orders`, `11`) can never meet. Values come from closed sets
//! (the macro `closed_label!`), from existing names ([`Topic`], [`Group`]) or from names written in the code
//! (the macro `static_label!`); a string from a socket never becomes a label unchecked.

use std::fmt;
use std::sync::Arc;

use super::text;

/// One label: its key is part of the type.
pub trait LabelValue: Clone + Ord + Send + Sync + 'static {
    const KEY: &'static str;
    /// Every value, where they are a closed set; else empty.
    const VALUES: &'static [&'static str] = &[];

    fn write_value(&self, write: &mut dyn FnMut(&str));

    /// The topic, for the one label that is one.
    fn topic(&self) -> Option<&Topic> {
        None
    }

    /// The consumer group, likewise.
    fn group(&self) -> Option<&Group> {
        None
    }

    /// This label when its topic's partitions are shown as one series; `None` if it stays as it is.
    fn fold_partition(&self) -> Option<Self> {
        None
    }

    /// This label in the one series for all topics beyond the limit.
    fn overflow(&self) -> Self {
        self.clone()
    }
}

/// The labels of one series.
pub trait Labels: Clone + Ord + Send + Sync + 'static {
    /// Keys in the order in which they are written, each with its values where they are a closed set.
    const KEYS: &'static [(&'static str, &'static [&'static str])];

    /// Appends `a="b",c="d"`.
    fn write(&self, out: &mut String);

    fn topic(&self) -> Option<&Topic> {
        None
    }

    fn group(&self) -> Option<&Group> {
        None
    }

    /// The series that stands for all partitions of this topic; `None` if this is not one of many.
    fn folded(&self) -> Option<Self> {
        None
    }

    /// The series that stands for all names without one of their own; `None` without a topic or group.
    fn overflow(&self) -> Option<Self> {
        None
    }
}

/// A metric without labels.
impl Labels for () {
    const KEYS: &'static [(&'static str, &'static [&'static str])] = &[];

    fn write(&self, _out: &mut String) {}
}

fn write_label<V: LabelValue>(value: &V, out: &mut String) {
    value.write_value(&mut |text| text::label(out, V::KEY, text));
}

impl<A: LabelValue> Labels for (A,) {
    const KEYS: &'static [(&'static str, &'static [&'static str])] = &[(A::KEY, A::VALUES)];

    fn write(&self, out: &mut String) {
        write_label(&self.0, out);
    }

    fn topic(&self) -> Option<&Topic> {
        self.0.topic()
    }

    fn group(&self) -> Option<&Group> {
        self.0.group()
    }

    fn overflow(&self) -> Option<Self> {
        is_named(self).then(|| (self.0.overflow(),))
    }
}

/// Whether the labels hold a name that somebody outside has chosen.
fn is_named(labels: &impl Labels) -> bool {
    labels.topic().is_some() || labels.group().is_some()
}

impl<A: LabelValue, B: LabelValue> Labels for (A, B) {
    const KEYS: &'static [(&'static str, &'static [&'static str])] =
        &[(A::KEY, A::VALUES), (B::KEY, B::VALUES)];

    fn write(&self, out: &mut String) {
        write_label(&self.0, out);
        write_label(&self.1, out);
    }

    fn topic(&self) -> Option<&Topic> {
        self.0.topic().or_else(|| self.1.topic())
    }

    fn group(&self) -> Option<&Group> {
        self.0.group().or_else(|| self.1.group())
    }

    fn folded(&self) -> Option<Self> {
        self.topic()?;
        self.1.fold_partition().map(|second| (self.0.clone(), second))
    }

    fn overflow(&self) -> Option<Self> {
        is_named(self).then(|| (self.0.overflow(), self.1.overflow()))
    }
}

impl<A: LabelValue, B: LabelValue, C: LabelValue> Labels for (A, B, C) {
    const KEYS: &'static [(&'static str, &'static [&'static str])] =
        &[(A::KEY, A::VALUES), (B::KEY, B::VALUES), (C::KEY, C::VALUES)];

    fn write(&self, out: &mut String) {
        write_label(&self.0, out);
        write_label(&self.1, out);
        write_label(&self.2, out);
    }

    fn topic(&self) -> Option<&Topic> {
        self.0.topic().or_else(|| self.1.topic())
    }

    fn group(&self) -> Option<&Group> {
        self.0.group().or_else(|| self.1.group())
    }

    fn overflow(&self) -> Option<Self> {
        is_named(self).then(|| (self.0.overflow(), self.1.overflow(), self.2.overflow()))
    }
}

/// A topic that exists, or one of the names with `~`, which no topic can have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

impl Topic {
    /// Where requests for topics that do not exist are counted.
    pub const UNKNOWN: &'static str = "~unknown";
    /// Where topics beyond the series limit are counted.
    pub const OTHER: &'static str = "~other";

    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl LabelValue for Topic {
    const KEY: &'static str = "topic";

    fn write_value(&self, write: &mut dyn FnMut(&str)) {
        write(&self.0);
    }

    fn topic(&self) -> Option<&Topic> {
        Some(self)
    }

    fn overflow(&self) -> Self {
        Self::new(Self::OTHER)
    }
}

/// A consumer group that exists; empty where a request names none, or one that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(Arc<str>);

impl Group {
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl LabelValue for Group {
    const KEY: &'static str = "consumer_group";

    fn write_value(&self, write: &mut dyn FnMut(&str)) {
        write(&self.0);
    }

    fn group(&self) -> Option<&Group> {
        Some(self)
    }

    fn overflow(&self) -> Self {
        Self::new(Topic::OTHER)
    }
}

/// A partition number, or all partitions of a folded topic together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Partition {
    Number(i32),
    Other,
}

impl LabelValue for Partition {
    const KEY: &'static str = "partition";

    fn write_value(&self, write: &mut dyn FnMut(&str)) {
        match self {
            Partition::Number(number) => write(&number.to_string()),
            Partition::Other => write(Topic::OTHER),
        }
    }

    fn fold_partition(&self) -> Option<Self> {
        (*self != Partition::Other).then_some(Partition::Other)
    }

    fn overflow(&self) -> Self {
        Partition::Other
    }
}

/// An enum that is a label: every value it can have is known, in order, with its text.
#[macro_export]
macro_rules! closed_label {
    ($(#[$meta:meta])* $name:ident, $key:literal { $($(#[$vmeta:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant),* }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The text of the label.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }
        }

        impl $crate::registry::LabelValue for $name {
            const KEY: &'static str = $key;
            const VALUES: &'static [&'static str] = &[$($text),*];

            fn write_value(&self, write: &mut dyn FnMut(&str)) {
                write(self.as_str());
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// A label whose values are names written in the code of its callers.
macro_rules! static_label {
    ($(#[$meta:meta])* $name:ident, $key:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub &'static str);

        impl $crate::registry::LabelValue for $name {
            const KEY: &'static str = $key;

            fn write_value(&self, write: &mut dyn FnMut(&str)) {
                write(self.0);
            }
        }
    };
}

pub(crate) use {closed_label, static_label};

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
