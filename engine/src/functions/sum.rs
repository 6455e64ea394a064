//! `sum` of integers that fails on overflow. DataFusion's own wraps around.

use std::{collections::HashMap, mem::size_of_val, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array},
        compute,
        datatypes::{DataType, Decimal128Type, Field, FieldRef, Int64Type, UInt64Type},
    },
    common::{Result, ScalarValue, internal_err},
    error::DataFusionError,
    functions_aggregate::sum::Sum,
    logical_expr::{
        Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::AggregateOrderSensitivity,
    },
};

use super::into_datafusion;
use crate::{
    error::{Error, Reason},
    types::SqlType,
};

/// What integers are added up in: no number of rows makes it overflow, so that only the sum itself is checked, and rows
/// may come in any order.
const WIDE: DataType = DataType::Decimal128(38, 0);

/// DataFusion's `sum`, which adds up integers in [`WIDE`] and fails when the sum is out of range.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct CheckedSum {
    theirs: Sum,
}

fn wide_field() -> FieldRef {
    Arc::new(Field::new("sum", WIDE, true))
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.theirs.name()
    }

    fn signature(&self) -> &Signature {
        self.theirs.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.theirs.return_type(types)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.return_type().is_integer() {
            return Ok(Box::new(IntegerSum::new(&args)));
        }
        self.theirs.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.return_type().is_integer() {
            return Ok(Box::new(IntegerSum::new(&args)));
        }
        self.theirs.create_sliding_accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.theirs.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let data_type = args.return_type().clone();
        if !data_type.is_integer() {
            return self.theirs.create_groups_accumulator(args);
        }
        let wide = self.theirs.create_groups_accumulator(AccumulatorArgs { return_field: wide_field(), ..args })?;
        Ok(Box::new(IntegerSums { wide, data_type }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if args.return_type().is_integer() {
            return self.theirs.state_fields(StateFieldsArgs { return_field: wide_field(), ..args });
        }
        self.theirs.state_fields(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.theirs.reverse_expr()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.theirs.order_sensitivity()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.theirs.set_monotonicity(data_type)
    }
}

/// One sum, of all values or of the distinct ones.
#[derive(Debug)]
struct IntegerSum {
    data_type: DataType,
    sum: i128,
    /// How many values it is the sum of; of states merged, at least one for each that has any.
    count: usize,
    /// For DISTINCT: how often each value came.
    distinct: Option<HashMap<i128, usize>>,
}

impl IntegerSum {
    fn new(args: &AccumulatorArgs<'_>) -> Self {
        let distinct = args.is_distinct.then(HashMap::new);
        Self { data_type: args.return_type().clone(), sum: 0, count: 0, distinct }
    }

    fn add(&mut self, values: &Decimal128Array) {
        let Some(distinct) = &mut self.distinct else {
            self.count += values.len() - values.null_count();
            self.sum += compute::sum(values).unwrap_or(0);
            return;
        };
        for value in values.iter().flatten() {
            let times = distinct.entry(value).or_insert(0);
            if *times == 0 {
                self.count += 1;
                self.sum += value;
            }
            *times += 1;
        }
    }

    fn remove(&mut self, values: &Decimal128Array) {
        let Some(distinct) = &mut self.distinct else {
            self.count -= values.len() - values.null_count();
            self.sum -= compute::sum(values).unwrap_or(0);
            return;
        };
        for value in values.iter().flatten() {
            let Some(times) = distinct.get_mut(&value) else { continue };
            *times -= 1;
            if *times == 0 {
                distinct.remove(&value);
                self.count -= 1;
                self.sum -= value;
            }
        }
    }
}

impl Accumulator for IntegerSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&widened(first(values)?)?);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.remove(&widened(first(values)?)?);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let wide = |value| ScalarValue::Decimal128(value, 38, 0);
        Ok(vec![match &self.distinct {
            None => wide((self.count > 0).then_some(self.sum)),
            Some(distinct) => {
                let values: Vec<ScalarValue> = distinct.keys().map(|value| wide(Some(*value))).collect();
                ScalarValue::List(ScalarValue::new_list_nullable(&values, &WIDE))
            }
        }])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let state = first(states)?;
        if self.distinct.is_none() {
            self.add(state.as_primitive());
            return Ok(());
        }
        for values in state.as_list::<i32>().iter().flatten() {
            self.add(values.as_primitive());
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = Decimal128Array::from(vec![(self.count > 0).then_some(self.sum)]);
        ScalarValue::try_from_array(&narrowed(&sum, &self.data_type)?, 0)
    }

    fn size(&self) -> usize {
        let entries = self.distinct.as_ref().map_or(0, HashMap::capacity);
        size_of_val(self) + entries * size_of::<(i128, usize)>()
    }
}

/// A sum for each group.
struct IntegerSums {
    wide: Box<dyn GroupsAccumulator>,
    data_type: DataType,
}

impl GroupsAccumulator for IntegerSums {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<()> {
        let values: ArrayRef = Arc::new(widened(first(values)?)?);
        self.wide.update_batch(&[values], groups, filter, group_count)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        narrowed(self.wide.evaluate(emit_to)?.as_primitive(), &self.data_type)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.wide.state(emit_to)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], group_count: usize) -> Result<()> {
        self.wide.merge_batch(states, groups, group_count)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values: ArrayRef = Arc::new(widened(first(values)?)?);
        self.wide.convert_to_state(&[values], filter)
    }

    fn size(&self) -> usize {
        self.wide.size()
    }
}

fn first(arrays: &[ArrayRef]) -> Result<&ArrayRef> {
    arrays.first().ok_or_else(|| DataFusionError::Internal("sum without an argument".to_owned()))
}

/// Integers as [`WIDE`].
fn widened(values: &ArrayRef) -> Result<Decimal128Array> {
    let wide = match values.data_type() {
        DataType::Int64 => values.as_primitive::<Int64Type>().unary::<_, Decimal128Type>(i128::from),
        DataType::UInt64 => values.as_primitive::<UInt64Type>().unary::<_, Decimal128Type>(i128::from),
        other => return internal_err!("sum of {other} as of integers"),
    };
    Ok(wide.with_data_type(WIDE))
}

/// Sums as integers of the type announced.
fn narrowed(sums: &Decimal128Array, data_type: &DataType) -> Result<ArrayRef> {
    let out_of_range = || {
        let sql_type = SqlType::from_arrow(data_type);
        into_datafusion(Error::new(
            Reason::InvalidValue,
            format!("The sum is out of the range of {sql_type}. Sum decimals: sum(CAST(… AS DECIMAL(38, 0)))."),
        ))
    };
    Ok(match data_type {
        DataType::Int64 => {
            let narrow = |sum| i64::try_from(sum).map_err(|_| out_of_range());
            Arc::new(sums.try_unary::<_, Int64Type, DataFusionError>(narrow)?)
        }
        DataType::UInt64 => {
            let narrow = |sum| u64::try_from(sum).map_err(|_| out_of_range());
            Arc::new(sums.try_unary::<_, UInt64Type, DataFusionError>(narrow)?)
        }
        other => return internal_err!("a sum of integers as {other}"),
    })
}
