//! Every type that can be stored survives a file, for KalamDB and for a reader that knows nothing of it.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use kalamdb_store::segment::*;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

use crate::common::{any_column, any_type};
use crate::files::*;

/// Types that Parquet has no place for, or that the random values of `any_column` do not fit.
fn storable(data_type: &DataType) -> bool {
    match data_type {
        DataType::Decimal128(_, scale) => *scale >= 0,
        DataType::List(element) => storable(element.data_type()),
        DataType::Struct(fields) => !fields.is_empty() && fields.iter().all(|field| storable(field.data_type())),
        _ => true,
    }
}

fn has_views(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView => true,
        DataType::List(element) => has_views(element.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_views(field.data_type())),
        _ => false,
    }
}

/// Up to 300 rows of up to four columns.
fn table() -> impl Strategy<Value = Vec<ArrayRef>> {
    let columns = prop::collection::vec(any_type().prop_filter("Parquet has it", storable), 0..4);
    (columns, 1..300_usize).prop_flat_map(|(types, rows)| {
        types.into_iter().map(|it| any_column(it, rows)).collect::<Vec<_>>().prop_map(move |mut columns| {
            columns.push(Arc::new(Int64Array::from_iter_values(0..rows as i64)));
            columns
        })
    })
}

fn check(columns: &[ArrayRef]) {
    let key = columns.len() - 1;
    let field = |(at, column): (usize, &ArrayRef)| Field::new(format!("c{at}"), column.data_type().clone(), at != key);
    let fields = fields_of(columns.iter().enumerate().map(field), key);
    let rows = columns[key].len();
    let batch = batch_of(&fields, columns.to_vec(), 0..rows as i64);
    let settings = WriterSettings { row_group_rows: 100, data_page_rows: 16, ..WriterSettings::default() };
    let file = file_of(&fields, &batch, &settings);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let read = runtime.block_on(async {
        let world = World::in_memory();
        let reader = world.segments.open(&world.add(1, &file).await).await.unwrap();
        let all: Vec<u32> = (0..rows as u32).collect();
        let places: Vec<usize> = (0..fields.schema.fields().len()).collect();
        reader.read_rows(&all, &places).await.unwrap()
    });
    let plain = ParquetRecordBatchReaderBuilder::try_new(file.bytes.clone()).unwrap();
    assert!(!plain.schema().fields().iter().any(|field| has_views(field.data_type())));
    let plain = plain.with_batch_size(rows).build().unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let plain = arrow::compute::concat_batches(&plain[0].schema(), &plain).unwrap();
    for (at, column) in batch.columns().iter().enumerate() {
        for read in [&read, &plain] {
            assert_eq!(&restore_column(read.column(at), column.data_type()).unwrap(), column, "column {at}");
        }
        // Only intervals need to be restored.
        let data_type = format!("{:?}", column.data_type());
        assert!(data_type.contains("Interval") || read.column(at).data_type() == column.data_type(), "{data_type}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_type_survives_a_file(columns in table()) {
        check(&columns);
    }
}

#[test]
fn small_decimals_and_extreme_intervals_survive_a_file() {
    let interval = |months, days, nanoseconds| Some(IntervalMonthDayNano::new(months, days, nanoseconds));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Decimal128Array::from(vec![-99_999_i128, 0, 99_999, 1, 2, 3]).with_precision_and_scale(5, 5).unwrap()),
        Arc::new(Decimal128Array::from(vec![-9_i128, 0, 9, 1, 2, 3]).with_precision_and_scale(1, 0).unwrap()),
        Arc::new(
            Decimal128Array::from(vec![-(10_i128.pow(18) - 1), 0, 10_i128.pow(18) - 1, 1, 2, 3])
                .with_precision_and_scale(18, 9)
                .unwrap(),
        ),
        Arc::new(IntervalMonthDayNanoArray::from(vec![
            interval(i32::MIN, i32::MIN, i64::MIN),
            interval(i32::MAX, i32::MAX, i64::MAX),
            interval(0, 0, 0),
            interval(0, 0, -1),
            interval(-1, 1, -3_600_000_000_001),
            None,
        ])),
        Arc::new(Int64Array::from(vec![0, 1, 2, 3, 4, 5])),
    ];
    check(&columns);
}

#[test]
fn what_cannot_be_stored_is_refused_with_its_name() {
    let key = Field::new("id", DataType::Int64, false);
    let empty_struct = DataType::List(Arc::new(Field::new("item", DataType::Struct(Fields::empty()), true)));
    for bad in [empty_struct, DataType::Decimal128(5, -2), DataType::Null, DataType::Int8, DataType::Utf8] {
        let columns = [key.clone(), Field::new("odd", bad.clone(), true)];
        let columns = columns.into_iter().map(|field| (kalamdb_store::ids::ColumnId::new(0), Arc::new(field)));
        let error = SegmentFields::new(columns, 0).unwrap_err();
        assert_eq!(error, SegmentError::Unsupported { column: "odd".to_owned(), data_type: bad });
    }
    for bad in [Field::new("id", DataType::Int64, true), Field::new("id", DataType::Int32, false)] {
        let columns = [(kalamdb_store::ids::ColumnId::new(0), Arc::new(bad))];
        assert!(matches!(SegmentFields::new(columns, 0), Err(SegmentError::Unsupported { .. })));
    }
    assert!(SegmentFields::new([], 0).is_err());
}
