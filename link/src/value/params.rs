//! Parameters of a statement.

use super::Value;

/// The values of `$1`, `$2`, …: `()`, a tuple of Rust values, [`params!`](crate::params), or values as they are.
///
/// ```
/// use kalam_link::{IntoParams, Value, params};
///
/// assert_eq!((7, "seven").into_params(), [Value::Int(7), Value::Text("seven".into())]);
/// assert_eq!(params![7, "seven"].into_params(), (7, "seven").into_params());
/// assert!(().into_params().is_empty());
/// ```
pub trait IntoParams {
    /// The values in order.
    fn into_params(self) -> Vec<Value>;
}

/// Any number of parameters of different types, each converted with `Value::from`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        <[$crate::Value]>::into_vec(::std::boxed::Box::new([$($crate::Value::from($value)),*]))
    };
}

impl IntoParams for () {
    fn into_params(self) -> Vec<Value> {
        Vec::new()
    }
}

impl IntoParams for Vec<Value> {
    fn into_params(self) -> Vec<Value> {
        self
    }
}

impl IntoParams for &Vec<Value> {
    fn into_params(self) -> Vec<Value> {
        self.clone()
    }
}

impl IntoParams for &[Value] {
    fn into_params(self) -> Vec<Value> {
        self.to_vec()
    }
}

impl<const N: usize> IntoParams for [Value; N] {
    fn into_params(self) -> Vec<Value> {
        self.into()
    }
}

impl<const N: usize> IntoParams for &[Value; N] {
    fn into_params(self) -> Vec<Value> {
        self.to_vec()
    }
}

macro_rules! tuples {
    ($($($name:ident)+;)*) => {$(
        impl<$($name: Into<Value>),+> IntoParams for ($($name,)+) {
            #[allow(non_snake_case, reason = "the type parameters name the bindings")]
            fn into_params(self) -> Vec<Value> {
                let ($($name,)+) = self;
                vec![$($name.into()),+]
            }
        }
    )*};
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
}
