#![allow(missing_docs, clippy::unwrap_used)]
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::*;
use arrow::datatypes::*;
use kalamdb_store::*;

fn layout() -> RowLayout {
    let c = |id, data_type| LayoutColumn { id: ColumnId::new(id), data_type };
    RowLayout::new(vec![
        c(1, DataType::Utf8View),
        c(2, DataType::Int64),
        c(3, DataType::Utf8View),
        c(4, DataType::Timestamp(TimeUnit::Microsecond, None)),
        c(5, DataType::Float64),
    ])
    .unwrap()
}

fn cols(n: usize) -> Vec<ArrayRef> {
    vec![
        Arc::new(StringViewArray::from_iter_values((0..n).map(|i| format!("conv-{}", i % 10)))),
        Arc::new(Int64Array::from_iter_values((0..n).map(|i| i as i64))),
        Arc::new(StringViewArray::from_iter_values((0..n).map(|i| format!("hello, this is message number {i}, sixty bytes or so")))),
        Arc::new(TimestampMicrosecondArray::from_iter_values((0..n).map(|i| i as i64))),
        Arc::new(Float64Array::from_iter_values((0..n).map(|i| i as f64))),
    ]
}

fn part() -> Partition {
    Partition { table: TableId::new(1), owner: Owner::User(UserId::new("user-000123").unwrap()) }
}

#[test]
fn decode_speed() {
    let n = 10_000;
    let layout = layout();
    let t = Instant::now();
    let rows = encode_rows(&layout, SchemaVersion::new(1), &cols(n), n).unwrap();
    println!("encode {} ns/row (incl. building)", t.elapsed().as_nanos() / n as u128);
    let c = cols(n);
    let t = Instant::now();
    for _ in 0..10 { std::hint::black_box(encode_rows(&layout, SchemaVersion::new(1), &c, n).unwrap()); }
    println!("encode {} ns/row", t.elapsed().as_nanos() / n as u128 / 10);
    let keys: Vec<_> = (0..n).map(|i| row_key(&part(), &PrimaryKey::from_i64(i as i64))).collect();
    let history = Arc::new(LayoutHistory::new(BTreeMap::from([(SchemaVersion::new(1), Arc::new(layout))])));
    let s = |id, data_type| DecodeColumn::Stored { id: ColumnId::new(id), data_type, missing: None };
    let all = || vec![
        DecodeColumn::PrimaryKey { data_type: DataType::Int64 },
        s(1, DataType::Utf8View), s(2, DataType::Int64), s(3, DataType::Utf8View),
        s(4, DataType::Timestamp(TimeUnit::Microsecond, None)), s(5, DataType::Float64),
    ];
    for (name, cols) in [("all 6", all()), ("2 ints", vec![s(2, DataType::Int64), s(5, DataType::Float64)]), ("text", vec![s(3, DataType::Utf8View)]), ("pk", vec![DecodeColumn::PrimaryKey { data_type: DataType::Int64 }])] {
        let mut d = BatchDecoder::new(history.clone(), cols).unwrap();
        let t = Instant::now();
        for _ in 0..50 {
            for (k, r) in keys.iter().zip(&rows) { d.append(k, r.as_bytes()).unwrap(); }
            std::hint::black_box(d.finish().unwrap());
        }
        println!("decode {name}: {} ns/row", t.elapsed().as_nanos() / n as u128 / 50);
    }
}

#[test]
fn scan_speed() {
    let dir = tempfile::tempdir().unwrap();
    let backend = RocksBackend::open(dir.path(), &RocksSettings::default()).unwrap();
    let n = 10_000;
    let layout = layout();
    let rows = encode_rows(&layout, SchemaVersion::new(1), &cols(n), n).unwrap();
    let mut b = WriteBatch::new();
    for (i, r) in rows.iter().enumerate() { b.put(Keyspace::Rows, row_key(&part(), &PrimaryKey::from_i64(i as i64)), r.as_bytes()); }
    backend.write(b, Durability::Async).unwrap();
    for round in 0..2 {
        for _ in 0..3 {
            let t = Instant::now();
            let snap = backend.snapshot();
            let mut c = snap.cursor(Keyspace::Rows, KeyRange::prefix(&row_prefix(&part())), Direction::Forward).unwrap();
            let mut total = 0;
            let mut count = 0;
            while let Some((k, v)) = c.item() { total += k.len() + v.len(); count += 1; c.advance().unwrap(); }
            println!("scan {} ns/row {count} {total}", t.elapsed().as_nanos() / n as u128);
        }
        let t = Instant::now();
        for i in 0..n { std::hint::black_box(backend.get(Keyspace::Rows, &row_key(&part(), &PrimaryKey::from_i64(i as i64))).unwrap().unwrap()); }
        println!("get {} ns", t.elapsed().as_nanos() / n as u128);
        let t = Instant::now();
        for i in 0..n { std::hint::black_box(backend.get(Keyspace::Rows, &row_key(&part(), &PrimaryKey::from_i64(-1 - i as i64))).unwrap()); }
        println!("get missing {} ns", t.elapsed().as_nanos() / n as u128);
        let t = Instant::now();
        for i in 0..n { std::hint::black_box(backend.snapshot().get(Keyspace::Rows, &row_key(&part(), &PrimaryKey::from_i64(i as i64))).unwrap().unwrap()); }
        println!("snapshot + get {} ns", t.elapsed().as_nanos() / n as u128);
        if round == 0 { backend.flush().unwrap(); println!("flushed"); }
    }
}

fn pct(v: &mut [u128]) -> String {
    v.sort();
    let at = |p: f64| v[((v.len() - 1) as f64 * p) as usize] / 1000;
    format!("p50 {} p99 {} p99.9 {} µs", at(0.5), at(0.99), at(0.999))
}

#[test]
fn commit_speed() {
    for (durability, clients) in [(Durability::Async, 1), (Durability::Async, 16), (Durability::Async, 64), (Durability::Sync, 1), (Durability::Sync, 64)] {
        let dir = tempfile::Builder::new().tempdir_in("/root").unwrap();
        let backend: Arc<dyn StorageBackend> = Arc::new(RocksBackend::open(dir.path(), &RocksSettings::default()).unwrap());
        let settings = CommitSettings { durability, ..CommitSettings::default() };
        let committer = Committer::start(backend, settings, None).unwrap();
        let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let row = encode_rows(&layout(), SchemaVersion::new(1), &cols(1), 1).unwrap().remove(0);
        let per = 30_000 / clients;
        let t = Instant::now();
        let mut all = rt.block_on(async {
            let tasks: Vec<_> = (0..clients).map(|c| {
                let (committer, row) = (committer.clone(), row.clone());
                tokio::spawn(async move {
                    let mut lat = vec![];
                    for i in 0..per {
                        let change = RowChange { partition: part(), key: PrimaryKey::from_i64((i * clients + c) as i64), op: RowOp::Insert { row: row.clone(), unique: Unique::Check } };
                        let t = Instant::now();
                        committer.commit(PreparedCommit { changes: vec![change], ..Default::default() }).await.unwrap();
                        lat.push(t.elapsed().as_nanos());
                    }
                    lat
                })
            }).collect();
            let mut all = vec![];
            for t in tasks { all.extend(t.await.unwrap()); }
            all
        });
        let secs = t.elapsed().as_secs_f64();
        println!("{durability:?} {clients} clients: {:.0}/s {}", all.len() as f64 / secs, pct(&mut all));
        // bare: one-thread put loop
        if clients == 1 {
            let dir = tempfile::Builder::new().tempdir_in("/root").unwrap();
            let backend = RocksBackend::open(dir.path(), &RocksSettings::default()).unwrap();
            let mut lat = vec![];
            for i in 0..20_000_i64 {
                let t = Instant::now();
                backend.put(Keyspace::Rows, &row_key(&part(), &PrimaryKey::from_i64(i)), row.as_bytes(), durability).unwrap();
                lat.push(t.elapsed().as_nanos());
            }
            println!("  bare put {}", pct(&mut lat));
        }
    }
}
