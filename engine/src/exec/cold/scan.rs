//! The scan of a table's segments: DataFusion's Parquet source, told which files, rows and columns there are.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use datafusion::{
    arrow::{
        compute::SortOptions,
        datatypes::{FieldRef, Schema, SchemaRef},
    },
    catalog::Session,
    common::{Result as DataFusionResult, ScalarValue, Statistics, internal_datafusion_err},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{
            FileGroup, FileScanConfigBuilder, ParquetSource, parquet::can_expr_be_pushed_down_with_schemas,
        },
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    error::DataFusionError,
    execution::object_store::ObjectStoreUrl,
    logical_expr::Operator,
    object_store::path::Path,
    physical_expr::{
        LexOrdering, PhysicalExpr, PhysicalSortExpr,
        expressions::{BinaryExpr, Column, in_list, lit},
        split_conjunction,
        utils::{collect_columns, conjunction_opt},
    },
    physical_plan::{ExecutionPlan, filter::FilterExecBuilder},
};
use kalamdb_store::{
    codec::{PrimaryKey, SegmentEntry},
    ids::{Owner, Partition, SchemaVersion, StorageId},
};

use crate::{
    catalog::{DELETED_COLUMN, OWNER_COLUMN, Table},
    error::{Error, Result},
    exec::{
        StatementContext,
        cold::{
            ColdTier, check_version,
            columns::{ColumnsById, file_schema},
            files::{SegmentFiles, access_plan},
            from_segment,
            groups::Groups,
            manifest::{LiveSegment, live_segments, live_segments_of_table, owners},
            statistics::{key_value, of_segments},
            tail::ScannedSegment,
        },
        key_filter::KeySet,
        scan::{ScanSpec, batch_of, remap},
    },
};

/// Of more segments than this, statistics are not given one by one.
const MAX_DESCRIBED_SEGMENTS: usize = 1_024;

/// The scans of the segments that may have wanted rows, one for each storage that has any.
pub(crate) fn segment_scans(
    session: &dyn Session,
    context: &StatementContext,
    spec: &ScanSpec,
    limit: Option<usize>,
) -> DataFusionResult<Vec<Arc<dyn ExecutionPlan>>> {
    let mut by_storage: BTreeMap<StorageId, Vec<LiveSegment>> = BTreeMap::new();
    for segment in wanted_segments(context, spec).map_err(external)? {
        by_storage.entry(segment.entry.storage).or_default().push(segment);
    }
    let mut scans = Vec::with_capacity(by_storage.len());
    for (storage, segments) in by_storage {
        let scan = StorageScan { session, cold: context.cold(), spec, storage };
        scans.push(scan.plan(segments, limit)?);
    }
    Ok(scans)
}

/// The segments that may have wanted rows.
fn wanted_segments(context: &StatementContext, spec: &ScanSpec) -> Result<Vec<LiveSegment>> {
    let (snapshot, marks) = (context.snapshot().as_ref(), &context.cold().marks);
    let table = spec.table.id();
    let may_have_rows = |entry: &SegmentEntry| spec.keys.overlaps(&entry.min_key, &entry.max_key);
    let mut segments = match &spec.owner {
        Some(owner) => live_segments(snapshot, marks, &Partition { table, owner: owner.clone() }, may_have_rows)?,
        None => {
            let segments = live_segments_of_table(snapshot, marks, table, may_have_rows)?;
            of_wanted_owners(segments, spec)?
        }
    };
    segments.retain(|segment| segment.live_rows() > 0);
    for segment in &segments {
        check_version(&spec.table, segment.entry.schema_version)?;
    }
    Ok(segments)
}

/// The segments whose owners fulfil the conditions that are on the owner alone.
fn of_wanted_owners(mut segments: Vec<LiveSegment>, spec: &ScanSpec) -> Result<Vec<LiveSegment>> {
    let Some(filter) = &spec.filter else { return Ok(segments) };
    let Some(owner_index) = spec.full_schema.fields().iter().position(|f| f.name() == OWNER_COLUMN) else {
        return Ok(segments);
    };
    let of_owner = split_conjunction(filter).into_iter().filter(|condition| {
        let columns = collect_columns(condition);
        !columns.is_empty() && columns.iter().all(|column| column.index() == owner_index)
    });
    let Some(condition) = conjunction_opt(of_owner.map(Arc::clone)) else { return Ok(segments) };
    let wanted: Vec<Owner> = {
        let owners = owners(&segments);
        let values = ScalarValue::iter_to_array(owners.iter().map(|owner| owner_value(owner))).map_err(Error::internal);
        let keep = if owners.is_empty() { Vec::new() } else { holds(&condition, owner_index, spec, values?)? };
        owners.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(owner, _)| owner.clone()).collect()
    };
    segments.retain(|segment| wanted.binary_search(&segment.owner).is_ok());
    Ok(segments)
}

/// For which values of the column at `index` a condition on that column alone holds.
fn holds(
    condition: &Arc<dyn PhysicalExpr>,
    index: usize,
    spec: &ScanSpec,
    values: datafusion::arrow::array::ArrayRef,
) -> Result<Vec<bool>> {
    let evaluate = || -> DataFusionResult<Vec<bool>> {
        let schema = Arc::new(Schema::new(vec![spec.full_schema.field(index).clone()]));
        let rows = values.len();
        let batch = batch_of(&schema, vec![values], rows)?;
        let holds = remap(condition, &[index])?.evaluate(&batch)?.into_array(rows)?;
        let holds = datafusion::common::cast::as_boolean_array(&holds)?;
        Ok(holds.iter().map(|holds| holds == Some(true)).collect())
    };
    evaluate().map_err(crate::exec::from_datafusion)
}

fn owner_value(owner: &Owner) -> ScalarValue {
    match owner {
        Owner::Shared => ScalarValue::Utf8View(None),
        Owner::User(user) => ScalarValue::Utf8View(Some(user.as_str().to_owned())),
    }
}

/// The scan of the segments of one storage.
struct StorageScan<'a> {
    session: &'a dyn Session,
    cold: &'a ColdTier,
    spec: &'a ScanSpec,
    storage: StorageId,
}

impl StorageScan<'_> {
    fn plan(&self, segments: Vec<LiveSegment>, limit: Option<usize>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let spec = self.spec;
        let schema = table_schema(&spec.table, &spec.full_schema);
        let (pushed, rest) = self.conditions(&segments, schema.table_schema())?;
        let mut columns = spec.projection.clone();
        let mut needed: Vec<usize> = rest.iter().flat_map(collect_columns).map(|column| column.index()).collect();
        needed.sort_unstable();
        needed.retain(|index| !columns.contains(index));
        needed.dedup();
        columns.extend(needed);

        let statistics = of_segments(&spec.table, schema.table_schema(), &segments).map_err(external)?;
        let partitions = self.session.config().target_partitions();
        let described = segments.len() <= MAX_DESCRIBED_SEGMENTS;
        let groups = match spec.owner {
            Some(_) if described => Groups::by_key(segments, partitions),
            _ => Groups::by_size(segments, partitions),
        };
        let ordering = if groups.in_key_order { by_key(&spec.table).into_iter().collect() } else { Vec::new() };
        let files = self.file_groups(groups, &schema, described)?;
        let source = self.source(schema, pushed)?;
        let config = FileScanConfigBuilder::new(self.object_store_url()?, Arc::new(source))
            .with_file_groups(files)
            .with_statistics(statistics)
            .with_expr_adapter(Some(Arc::new(ColumnsById(Arc::clone(&spec.table)))))
            .with_output_ordering(ordering)
            .with_projection_indices(Some(columns.clone()))?
            .with_limit(limit.filter(|_| rest.is_empty()))
            .build();
        let scan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config);
        let Some(rest) = conjunction_opt(rest) else { return Ok(scan) };
        let filter = FilterExecBuilder::new(remap(&rest, &columns)?, scan)
            .apply_projection(Some((0..spec.projection.len()).collect()))?
            .with_fetch(limit)
            .build()?;
        Ok(Arc::new(filter))
    }

    /// The conditions on the full schema: those that the Parquet reader evaluates, and those that it cannot.
    fn conditions(&self, segments: &[LiveSegment], schema: &SchemaRef) -> DataFusionResult<(Conditions, Conditions)> {
        let spec = self.spec;
        let mut conditions: Conditions = spec.filter.iter().flat_map(split_conjunction).map(Arc::clone).collect();
        let entries = || segments.iter().map(|segment| &segment.entry);
        if !entries().all(|entry| spec.keys.covers(&entry.min_key, &entry.max_key)) {
            conditions.extend(key_conditions(&spec.table, &spec.keys, schema)?);
        }
        Ok(conditions.into_iter().partition(|condition| can_expr_be_pushed_down_with_schemas(condition, schema)))
    }

    fn source(&self, schema: TableSchema, conditions: Conditions) -> DataFusionResult<ParquetSource> {
        let store = self.cold.segments.verified_store(self.storage).map_err(|e| external(from_segment(&e)))?;
        let files = SegmentFiles { segments: Arc::clone(&self.cold.segments), store };
        let source = ParquetSource::new(schema)
            .with_parquet_file_reader_factory(Arc::new(files))
            .with_pushdown_filters(true)
            // A condition may be there to keep a later one from failing.
            .with_reorder_filters(conditions.iter().all(cannot_fail))
            .with_enable_page_index(true)
            .with_bloom_filter_on_read(true);
        Ok(match conjunction_opt(conditions) {
            Some(condition) => source.with_predicate(condition),
            None => source,
        })
    }

    /// The storage as DataFusion knows it. Files are not read by this name, but it must be there.
    fn object_store_url(&self) -> DataFusionResult<ObjectStoreUrl> {
        let url = ObjectStoreUrl::parse(format!("segments://{}", self.storage))?;
        let registry = self.session.runtime_env();
        if registry.object_store(&url).is_err() {
            let store = self.cold.segments.verified_store(self.storage).map_err(|e| external(from_segment(&e)))?;
            registry.register_object_store(url.as_ref(), store);
        }
        Ok(url)
    }

    fn file_groups(&self, groups: Groups, schema: &TableSchema, described: bool) -> DataFusionResult<Vec<FileGroup>> {
        let mut schemas: BTreeMap<SchemaVersion, SchemaRef> = BTreeMap::new();
        let mut files = Vec::with_capacity(groups.groups.len());
        for group in groups.groups {
            let mut of_group = Vec::with_capacity(group.len());
            for segment in group {
                let version = segment.entry.schema_version;
                let of_file = match schemas.get(&version) {
                    Some(known) => Arc::clone(known),
                    None => {
                        let made = file_schema(&self.spec.table, version).map_err(external)?;
                        Arc::clone(schemas.entry(version).or_insert(made))
                    }
                };
                let statistics = if described {
                    let one = std::iter::once(&segment);
                    Some(of_segments(&self.spec.table, schema.file_schema(), one).map_err(external)?)
                } else {
                    None
                };
                of_group.push(self.file(segment, of_file, schema, statistics)?);
            }
            files.push(FileGroup::new(of_group));
        }
        Ok(files)
    }

    fn file(
        &self,
        segment: LiveSegment,
        of_file: SchemaRef,
        schema: &TableSchema,
        statistics: Option<Statistics>,
    ) -> DataFusionResult<PartitionedFile> {
        let LiveSegment { owner, entry, marks } = segment;
        let values = schema.table_partition_cols().iter().map(|field| match field.name().as_str() {
            DELETED_COLUMN => Ok(ScalarValue::Boolean(Some(false))),
            OWNER_COLUMN => Ok(owner_value(&owner)),
            other => Err(internal_datafusion_err!("a segment without its column {other}")),
        });
        let mut file = PartitionedFile::new("", entry.file_bytes)
            .with_partition_values(values.collect::<DataFusionResult<Vec<_>>>()?)
            .with_arrow_schema(of_file);
        file.object_meta.location = Path::parse(&entry.path).map_err(|e| external(Error::internal(e)))?;
        if let Some(statistics) = statistics {
            file = file.with_statistics(Arc::new(statistics));
        }
        if !marks.is_empty() {
            file = file.with_extension(access_plan(&entry, &marks));
        }
        let key = self.spec.table.key_column().name.as_str().to_owned();
        Ok(file.with_extension(Arc::new(ScannedSegment { entry, key })))
    }
}

type Conditions = Vec<Arc<dyn PhysicalExpr>>;

/// The full schema, of which the columns that files do not have are said for each file.
fn table_schema(table: &Table, full_schema: &SchemaRef) -> TableSchema {
    let in_file = |field: &&FieldRef| field.name() != DELETED_COLUMN && field.name() != OWNER_COLUMN;
    let of_table = table.columns().len();
    let mut fields: Vec<FieldRef> = full_schema.fields().iter().take(of_table).map(Arc::clone).collect();
    fields.extend(full_schema.fields().iter().skip(of_table).filter(in_file).map(Arc::clone));
    let constant: Vec<FieldRef> = full_schema.fields().iter().skip(fields.len()).map(Arc::clone).collect();
    TableSchema::builder(Arc::new(Schema::new(fields))).with_table_partition_cols(constant).build()
}

/// Rows by ascending key.
fn by_key(table: &Table) -> Option<LexOrdering> {
    let column = Column::new(table.key_column().name.as_str(), table.key_index());
    LexOrdering::new([PhysicalSortExpr::new(Arc::new(column), SortOptions { descending: false, nulls_first: false })])
}

/// A key set as conditions on the key column.
fn key_conditions(table: &Table, keys: &KeySet, schema: &SchemaRef) -> DataFusionResult<Conditions> {
    let column = || Arc::new(Column::new(table.key_column().name.as_str(), table.key_index()));
    let value = |key: &PrimaryKey| key_value(table, key).map(lit).map_err(external);
    let compare = |bound: &Bound<_>, included, excluded| -> DataFusionResult<Option<Arc<dyn PhysicalExpr>>> {
        let (operator, key) = match bound {
            Bound::Unbounded => return Ok(None),
            Bound::Included(key) => (included, key),
            Bound::Excluded(key) => (excluded, key),
        };
        Ok(Some(Arc::new(BinaryExpr::new(column(), operator, value(key)?))))
    };
    Ok(match keys {
        KeySet::Keys(keys) => {
            let values = keys.iter().map(value).collect::<DataFusionResult<Vec<_>>>()?;
            vec![in_list(column(), values, &false, schema)?]
        }
        KeySet::Range(low, high) => {
            let low = compare(low, Operator::GtEq, Operator::Gt)?;
            low.into_iter().chain(compare(high, Operator::LtEq, Operator::Lt)?).collect()
        }
    })
}

/// Whether a condition has a value for every row: comparisons of columns and constants do, functions and casts may not.
fn cannot_fail(condition: &Arc<dyn PhysicalExpr>) -> bool {
    use Operator::{And, Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq, Or};
    use datafusion::physical_expr::expressions::{InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr};
    let harmless = match condition.downcast_ref::<BinaryExpr>() {
        Some(binary) => {
            matches!(binary.op(), And | Or | Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
        }
        None => {
            condition.is::<Column>()
                || condition.is::<Literal>()
                || condition.is::<InListExpr>()
                || condition.is::<IsNullExpr>()
                || condition.is::<IsNotNullExpr>()
                || condition.is::<LikeExpr>()
                || condition.is::<NotExpr>()
        }
    };
    harmless && condition.children().into_iter().all(cannot_fail)
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
