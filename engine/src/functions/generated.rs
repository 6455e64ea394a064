//! Functions that make a fresh value for each row.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::{ArrayRef, Float64Array, Int64Array, StringViewBuilder},
        datatypes::DataType,
    },
    common::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
};

use crate::ids::IdSource;

/// What is generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Generator {
    SnowflakeId,
    UuidV7,
    Ulid,
    Uuid,
    Random,
}

impl Generator {
    pub(super) const ALL: [Generator; 5] =
        [Generator::SnowflakeId, Generator::UuidV7, Generator::Ulid, Generator::Uuid, Generator::Random];

    fn generate(self, ids: &IdSource, rows: usize) -> ArrayRef {
        // One reading of the clock serves the batch: the ids ascend all the same.
        let now_us = ids.env().now_us();
        let mut uuid = [0; uuid::fmt::Hyphenated::LENGTH];
        match self {
            Generator::SnowflakeId => Arc::new(Int64Array::from(ids.snowflakes(rows))),
            Generator::UuidV7 => texts(rows, |add| add(ids.next_uuid_v7(now_us).hyphenated().encode_lower(&mut uuid))),
            Generator::Uuid => texts(rows, |add| add(ids.next_uuid_v4().hyphenated().encode_lower(&mut uuid))),
            Generator::Ulid => {
                let mut ulid = [0; ulid::ULID_LEN];
                texts(rows, |add| add(ids.next_ulid(now_us).array_to_str(&mut ulid)))
            }
            Generator::Random => {
                // The 53 upper bits fill the mantissa of a number in [0, 1).
                let next = || (ids.env().random_u64() >> 11) as f64 / (1u64 << 53) as f64;
                Arc::new(Float64Array::from_iter_values((0..rows).map(|_| next())))
            }
        }
    }
}

fn texts(rows: usize, mut next: impl FnMut(&mut dyn FnMut(&str))) -> ArrayRef {
    let mut builder = StringViewBuilder::with_capacity(rows);
    for _ in 0..rows {
        next(&mut |text| builder.append_value(text));
    }
    Arc::new(builder.finish())
}

/// `snowflake_id()`, `uuid_v7()`, `ulid()`, `uuid()` and `random()`.
#[derive(Debug)]
pub(super) struct Generated {
    generator: Generator,
    ids: Arc<IdSource>,
    signature: Signature,
    aliases: Vec<String>,
}

impl Generated {
    pub(super) fn new(generator: Generator, ids: Arc<IdSource>) -> Self {
        let aliases = match generator {
            Generator::Random => vec!["rand".to_owned()],
            _ => Vec::new(),
        };
        Self { generator, ids, signature: Signature::nullary(Volatility::Volatile), aliases }
    }
}

impl PartialEq for Generated {
    fn eq(&self, other: &Self) -> bool {
        self.generator == other.generator && Arc::ptr_eq(&self.ids, &other.ids)
    }
}

impl Eq for Generated {}

impl Hash for Generated {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.generator.hash(state);
        Arc::as_ptr(&self.ids).hash(state);
    }
}

impl ScalarUDFImpl for Generated {
    fn name(&self) -> &str {
        match self.generator {
            Generator::SnowflakeId => "snowflake_id",
            Generator::UuidV7 => "uuid_v7",
            Generator::Ulid => "ulid",
            Generator::Uuid => "uuid",
            Generator::Random => "random",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.generator {
            Generator::SnowflakeId => DataType::Int64,
            Generator::Random => DataType::Float64,
            Generator::UuidV7 | Generator::Ulid | Generator::Uuid => DataType::Utf8View,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Array(self.generator.generate(&self.ids, args.number_rows)))
    }
}
