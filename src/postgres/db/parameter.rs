//! Values as parameters of a statement. What a value is in Rust says what it is in SQL, so that a statement can
//! be sent whole, without asking the server first.

use jiff::Timestamp;
use tokio_postgres::types::{Oid, ToSql, Type};

/// A value with its SQL type.
pub trait Parameter: Sync {
    /// As the driver wants it.
    fn value(&self) -> (&(dyn ToSql + Sync), Type);
}

impl<T: Typed + ToSql + Sync> Parameter for T {
    fn value(&self) -> (&(dyn ToSql + Sync), Type) {
        (self, T::TYPE)
    }
}

/// A Rust type that stands for one SQL type.
pub trait Typed {
    /// That type.
    const TYPE: Type;
}

/// A Rust type of which a list stands for an SQL array.
pub trait Element {
    /// The array's type.
    const ARRAY: Type;
}

macro_rules! typed {
    ($($rust:ty: $sql:ident, $array:ident;)*) => { $(
        impl Typed for $rust {
            const TYPE: Type = Type::$sql;
        }
        impl Element for $rust {
            const ARRAY: Type = Type::$array;
        }
    )* };
}

typed! {
    bool: BOOL, BOOL_ARRAY;
    i32: INT4, INT4_ARRAY;
    i64: INT8, INT8_ARRAY;
    f64: FLOAT8, FLOAT8_ARRAY;
    Oid: OID, OID_ARRAY;
    &str: TEXT, TEXT_ARRAY;
    String: TEXT, TEXT_ARRAY;
    Timestamp: TIMESTAMPTZ, TIMESTAMPTZ_ARRAY;
}

impl<T: Typed> Typed for Option<T> {
    const TYPE: Type = T::TYPE;
}

impl<T: Element> Element for Option<T> {
    const ARRAY: Type = T::ARRAY;
}

impl<T: Element> Typed for Vec<T> {
    const TYPE: Type = T::ARRAY;
}

impl<T: Element> Typed for &[T] {
    const TYPE: Type = T::ARRAY;
}
