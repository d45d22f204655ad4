//! The macros that make tables of fields, and the types that fields may have.

use super::{Amount, Settable, Value};
use crate::cpu::units::Cpus;
use crate::units::{Bytes, Limit};

/// Types whose value is one variant.
macro_rules! settable {
    ($($type:ty: $variant:ident),+) => { $(
        impl Settable for $type {
            fn value(&self) -> Value {
                Value::$variant(self.clone())
            }
            fn set(&mut self, value: Value) {
                if let Value::$variant(value) = value {
                    *self = value;
                }
            }
        }
    )+ };
}
settable!(Bytes: Size, Amount: Amount, Limit: Limit, Cpus: Cores, f64: Ratio, u64: Count, bool: Flag, String: Word,
    Vec<String>: Words);

impl Settable for u32 {
    fn value(&self) -> Value {
        Value::Count(u64::from(*self))
    }

    fn set(&mut self, value: Value) {
        if let Value::Count(n) = value {
            *self = Self::try_from(n).unwrap_or(Self::MAX);
        }
    }
}

impl<T: Settable + Default> Settable for Option<T> {
    fn value(&self) -> Value {
        self.as_ref().map_or(Value::Unset, Settable::value)
    }

    fn set(&mut self, value: Value) {
        if value != Value::Unset {
            self.get_or_insert_default().set(value);
        }
    }
}

/// The fields of a section: key, kind, and its documentation.
macro_rules! fields {
    ($type:ty { $($(#[doc = $doc:literal])+ $key:literal $($at:ident).+: $kind:expr;)+ }) => {
        vec![$($crate::field::Field::<$type> {
            key: $key.to_owned(),
            kind: $kind,
            doc: concat!($($doc),+).trim_ascii_start(),
            get: Box::new(|whole: &$type| $crate::field::Settable::value(&whole.$($at).+)),
            set: Box::new(|whole: &mut $type, value| $crate::field::Settable::set(&mut whole.$($at).+, value)),
        }),+]
    };
}

/// The constants of a law: the struct, its defaults, and its fields, from one list of name, type, default and kind.
macro_rules! constants {
    ($(#[$meta:meta])* $name:ident {
        $($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr, $kind:expr;)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl $name {
            /// The starting point.
            pub const DEFAULT: Self = Self { $($field: $default,)+ };

            /// Its constants as fields of a policy.
            #[must_use]
            pub fn fields() -> Vec<$crate::field::Field<Self>> {
                vec![$($crate::field::Field {
                    key: stringify!($field).to_owned(),
                    kind: $kind,
                    doc: concat!($($doc),+).trim_ascii_start(),
                    get: Box::new(|law: &Self| $crate::field::Settable::value(&law.$field)),
                    set: Box::new(|law: &mut Self, value| $crate::field::Settable::set(&mut law.$field, value)),
                }),+]
            }

            /// The constants that cannot work, and why. Only what is certain to break is refused: a time of zero, which
            /// would have a loop spin; a ratio that is no number; a least above its most. A law may be as strange as its
            /// author likes.
            #[must_use]
            pub fn problems(&self) -> Vec<String> {
                let fields = Self::fields();
                let out_of_range = |field: &$crate::field::Field<Self>| {
                    let value = (field.get)(self);
                    let problem = field.kind.problem(&value)?;
                    Some(format!("{} = {}: {problem}", field.key, value.plain()))
                };
                let mut problems: Vec<String> = fields.iter().filter_map(out_of_range).collect();
                problems.extend($crate::field::out_of_order(&fields, Self::PAIRS, self));
                problems
            }

            /// The first of them.
            #[must_use]
            pub fn problem(&self) -> Option<String> {
                self.problems().into_iter().next()
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::DEFAULT
            }
        }
    };
}

pub(crate) use {constants, fields};
