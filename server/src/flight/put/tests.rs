use std::{panic, sync::Arc, thread};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, FixedSizeListArray, Int64Array, ListArray, NullArray,
        StringArray, StringViewBuilder, StructArray,
    },
    buffer::{Buffer, NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, Fields, Int32Type},
};
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use bytes::Bytes;
use futures::{TryStreamExt, executor::block_on};

use super::*;

const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The messages of rows: a schema, dictionaries, and one batch.
fn encoded(columns: Vec<(&str, ArrayRef)>) -> Vec<FlightData> {
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let encoder = FlightDataEncoderBuilder::new()
        .with_dictionary_handling(DictionaryHandling::Resend)
        .with_flight_descriptor(Some(FlightDescriptor::new_cmd("rows")))
        .build(stream::iter([Ok(batch)]));
    block_on(encoder.try_collect()).unwrap()
}

fn read(messages: Vec<FlightData>) -> Result<Vec<RecordBatch>, Error> {
    block_on(async {
        let upload = Upload::of(stream::iter(messages.into_iter().map(Ok)), MAX_BYTES).await?;
        match upload.rows().await? {
            Some(rows) => rows.batches.try_collect().await,
            None => Ok(Vec::new()),
        }
    })
}

/// Why messages are refused.
fn refused(messages: Vec<FlightData>) -> String {
    let error = read(messages).unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidRequest, "{error}");
    error.message().to_owned()
}

/// The bytes, with others for all that are `from`.
fn replaced(bytes: &Bytes, from: &[u8], to: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    let (mut at, mut found) = (0, false);
    while let Some(part) = bytes.get_mut(at..at + from.len()) {
        if part == from {
            part.copy_from_slice(to);
            found = true;
        }
        at += 1;
    }
    assert!(found, "there is no {from:?}");
    bytes.into()
}

/// A column of every layout.
fn every_layout() -> Vec<(&'static str, ArrayRef)> {
    const ROWS: i32 = 20;
    let text = |row: i32| (row % 5 > 0).then(|| format!("{row}: a text that is longer than a view"));
    let texts: Vec<Option<String>> = (0..ROWS).map(text).collect();
    let mut views = StringViewBuilder::new();
    texts.iter().for_each(|text| views.append_option(text.as_deref()));
    let words: DictionaryArray<Int32Type> =
        (0..ROWS).map(|row| ["red", "blue"].get(row as usize % 3).copied()).collect();
    let list = |row: i32| (row % 4 > 0).then(|| (0..row % 7).map(Some).collect::<Vec<_>>());
    let pair = |row: i32| (row % 4 > 0).then_some([Some(row), None]);
    let numbers: ArrayRef =
        Arc::new(Int64Array::from_iter((0..ROWS).map(|row| (row % 3 > 0).then_some(i64::from(row)))));
    let fields = Fields::from(vec![Field::new("n", DataType::Int64, true)]);
    let nulls = NullBuffer::from_iter((0..ROWS).map(|row| row % 6 > 0));
    vec![
        ("numbers", Arc::clone(&numbers)),
        ("flags", Arc::new(BooleanArray::from_iter((0..ROWS).map(|row| Some(row % 2 > 0))))),
        ("decimals", Arc::new(Decimal128Array::from_iter_values((0..ROWS).map(i128::from)))),
        ("texts", Arc::new(StringArray::from(texts))),
        ("views", Arc::new(views.finish())),
        ("words", Arc::new(words)),
        ("lists", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>((0..ROWS).map(list)))),
        ("pairs", Arc::new(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>((0..ROWS).map(pair), 2))),
        ("structs", Arc::new(StructArray::new(fields, vec![numbers], Some(nulls)))),
        ("nothing", Arc::new(NullArray::new(ROWS as usize))),
    ]
}

#[test]
fn what_was_encoded_is_decoded() {
    let batches = read(encoded(every_layout())).unwrap();
    assert_eq!(batches.len(), 1);
    for ((name, column), read) in every_layout().iter().zip(batches[0].columns()) {
        assert_eq!(read, column, "{name}");
    }
}

#[test]
fn values_without_bytes_are_counted() {
    let elements = 12_345;
    let item = Arc::new(Field::new("item", DataType::Null, true));
    let nulls = Arc::new(NullArray::new(elements));
    let list = ListArray::new(item, OffsetBuffer::from_lengths([elements]), nulls, None);
    let messages = encoded(vec![("c", Arc::new(list))]);
    assert_eq!(read(messages.clone()).unwrap()[0].num_rows(), 1);
    let with = |count: i32| {
        let mut messages = messages.clone();
        let last = messages.last_mut().unwrap();
        last.data_header = replaced(&last.data_header, &12_345_i64.to_le_bytes(), &i64::from(count).to_le_bytes());
        last.data_body = replaced(&last.data_body, &12_345_i32.to_le_bytes(), &count.to_le_bytes());
        messages
    };
    assert_eq!(read(with(1_000_000)).unwrap()[0].num_rows(), 1);
    assert!(refused(with(i32::MAX)).contains("2147483647 values"));
    assert!(refused(with(-1)).contains("-1 values"));
    // As rows.
    let mut messages = encoded(vec![("c", Arc::new(NullArray::new(elements)))]);
    let last = messages.last_mut().unwrap();
    last.data_header = replaced(&last.data_header, &12_345_i64.to_le_bytes(), &i64::from(i32::MAX).to_le_bytes());
    assert!(refused(messages).contains("2147483647 values"));
}

#[test]
fn buffers_are_parts_of_the_body() {
    let messages = encoded(vec![("c", Arc::new(Int64Array::from_iter_values(0..1_000)))]);
    let mut short = messages.clone();
    let last = short.last_mut().unwrap();
    last.data_body = last.data_body.slice(..100);
    assert!(refused(short).contains("do not fit into its 100 bytes"));
    for length in [-8_000, i64::MIN, i64::MAX] {
        let mut messages = messages.clone();
        let last = messages.last_mut().unwrap();
        last.data_header = replaced(&last.data_header, &8_000_i64.to_le_bytes(), &length.to_le_bytes());
        assert!(refused(messages).contains(&format!("a buffer of {length} bytes")));
    }
}

#[test]
fn columns_of_views_have_their_buffers() {
    let mut views = StringViewBuilder::new();
    for _ in 0..77 {
        views.append_block(Buffer::from_vec(vec![b'x'; 64]));
    }
    views.append_value("short");
    let views = encoded(vec![("c", Arc::new(views.finish()))]);
    assert_eq!(read(views.clone()).unwrap()[0].num_rows(), 1);
    for count in [-1, i64::MIN, i64::MAX, 1_000] {
        let mut messages = views.clone();
        let last = messages.last_mut().unwrap();
        last.data_header = replaced(&last.data_header, &77_i64.to_le_bytes(), &count.to_le_bytes());
        assert!(refused(messages).contains("fewer buffers"), "{count}");
    }
    // Only who knows the schema knows that there is no column of views; the decoder panics.
    let mut mixed = encoded(vec![("c", Arc::new(Int64Array::from(vec![1])))]);
    mixed.truncate(1);
    mixed.extend(views.into_iter().skip(1));
    assert!(refused(mixed).contains("does not fit the schema"));
}

#[test]
fn schemas_and_dictionaries_are_bounded() {
    let mut vetting = Vetting { max_message_bytes: 65_536, dictionaries: HashMap::new() };
    let check = |vetting: &mut Vetting, message: &FlightData| {
        vetting.check(message).map_err(|error| (error.reason(), error.metadata().get("limit").cloned()))
    };
    let too_large = Err((Reason::StatementTooLarge, Some("flight.max_message_bytes".to_owned())));
    let names: Vec<String> = (0..300).map(|index| index.to_string()).collect();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let wide = encoded(names.iter().map(|name| (name.as_str(), Arc::clone(&column))).collect());
    assert_eq!(check(&mut vetting, &wide[0]), too_large);
    let word = "x".repeat(40_000);
    let words = || -> ArrayRef { Arc::new([word.as_str()].into_iter().collect::<DictionaryArray<Int32Type>>()) };
    let messages = encoded(vec![("a", words()), ("b", words())]);
    assert_eq!(messages.len(), 4, "a schema, two dictionaries and a batch");
    for _ in 0..3 {
        // The same again takes the place of the one before.
        assert_eq!(check(&mut vetting, &messages[1]), Ok(()));
    }
    assert_eq!(check(&mut vetting, &messages[2]), too_large);
}

/// Numbers that look random, and are the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Changes some bytes of one of the messages.
fn mutate(messages: &mut [FlightData], random: &mut Random) {
    const NUMBERS: [i64; 8] = [0, 1, 7, -1, 1 << 33, i32::MAX as i64, i64::MAX, i64::MIN];
    let index = random.below(messages.len());
    let message = &mut messages[index];
    let is_body = random.below(4) == 0;
    let mut bytes = if is_body { message.data_body.to_vec() } else { message.data_header.to_vec() };
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    match random.below(8) {
        0 => bytes.truncate(at),
        1..4 => bytes[at] = random.next() as u8,
        _ => {
            let number = NUMBERS[random.below(NUMBERS.len())].to_le_bytes();
            let part = &mut bytes[at / 4 * 4..];
            let length = part.len().min(number.len());
            part[..length].copy_from_slice(&number[..length]);
        }
    }
    let place = if is_body { &mut message.data_body } else { &mut message.data_header };
    *place = bytes.into();
}

/// Whether messages are read; an error is what is wrong with how they are refused, or read.
fn fault(messages: Vec<FlightData>) -> Result<bool, String> {
    let expected = [Reason::InvalidRequest, Reason::NotSupported, Reason::StatementTooLarge];
    match panic::catch_unwind(AssertUnwindSafe(|| read(messages))) {
        Ok(Ok(batches)) if batches.iter().all(|batch| batch.num_rows() <= MAX_BYTES) => Ok(true),
        Ok(Ok(_)) => Err("there are too many rows".to_owned()),
        Ok(Err(error)) if expected.contains(&error.reason()) => Ok(false),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("a panic".to_owned()),
    }
}

#[test]
fn any_other_bytes_are_rows_or_refused() {
    const ROUNDS: usize = 4_000;
    let original = encoded(every_layout());
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    // The decoder's panics are not worth a line each. This thread's failures are told below.
    let (here, usual) = (thread::current().id(), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        if thread::current().id() != here {
            usual(info);
        }
    }));
    let mut outcomes = [0, 0];
    let fault = (0..ROUNDS).find_map(|round| {
        let mut messages = original.clone();
        for _ in 0..=random.below(3) {
            mutate(&mut messages, &mut random);
        }
        match fault(messages) {
            Ok(is_read) => {
                outcomes[usize::from(is_read)] += 1;
                None
            }
            Err(fault) => Some(format!("round {round}: {fault}")),
        }
    });
    drop(panic::take_hook());
    assert_eq!(fault, None);
    assert!(outcomes.iter().all(|count| *count > ROUNDS / 100), "{outcomes:?}");
}
