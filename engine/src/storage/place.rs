//! Where a table's segments go.

use kalamdb_store::{
    ids::{Owner, StorageId},
    object::{PathNames, PathTemplate, TemplateError, canonical_uri},
};

use super::{LOCAL, Storages};
use crate::{
    catalog::{TablePlace, TableRecord},
    error::{Error, Position, Reason, Result},
    sql::{Place, TableKind},
};

impl Storages {
    /// What the STORAGE or LOCATION clause of a table means; without one, the default folders of `local`.
    ///
    /// # Errors
    /// STORAGE_NOT_FOUND, INVALID_TABLE_DEFINITION.
    pub(crate) fn place(&self, place: Option<&Place>, kind: TableKind) -> Result<TablePlace> {
        match place {
            None => Ok(TablePlace { storage: LOCAL, location: None }),
            Some(Place::Storage(name)) => Ok(TablePlace { storage: self.resolve(name)?, location: None }),
            Some(Place::Location { template, position }) => self.located(template, kind).map_err(|e| at(e, *position)),
        }
    }

    /// The folder of a partition's segments, relative to the root of the table's storage.
    pub(crate) fn partition_path(&self, table: &TableRecord, owner: &Owner) -> String {
        let per_user = table.kind != TableKind::Shared;
        // What does not parse was checked by another version, whose rules were others: entries say where files are.
        let template = table.location.as_deref().and_then(|text| PathTemplate::parse(text, per_user).ok());
        let template = template.unwrap_or_else(|| PathTemplate::default_of(per_user));
        let user = match owner {
            Owner::Shared => None,
            Owner::User(user) => Some(user.as_str()),
        };
        template.expand(&PathNames { namespace: table.namespace.as_str(), table: table.name.as_str(), user })
    }

    fn located(&self, location: &str, kind: TableKind) -> Result<TablePlace> {
        let (storage, relative) = if location.starts_with('/') || location.contains("://") {
            self.storage_around(location)?
        } else {
            (LOCAL, location.to_owned())
        };
        let template = PathTemplate::parse(&relative, kind != TableKind::Shared).map_err(from_template)?;
        Ok(TablePlace { storage, location: Some(template.to_string()) })
    }

    /// The storage that an absolute location is in, and what of the location comes behind its root.
    fn storage_around(&self, location: &str) -> Result<(StorageId, String)> {
        let variables = location.find(['{', '$']).unwrap_or(location.len());
        let (fixed, variable) = location.split_at(variables);
        // A folder's name can begin with fixed text.
        let cut = if variable.is_empty() { fixed.len() } else { fixed.rfind('/').map_or(0, |slash| slash + 1) };
        let (fixed, rest) = location.split_at(cut);
        let fixed = canonical_uri(fixed).map_err(|e| Error::new(Reason::InvalidTableDefinition, e.to_string()))?;
        let state = self.state.load();
        let below = |uri: &str| {
            let behind = fixed.strip_prefix(uri.strip_suffix('/').unwrap_or(uri))?;
            (behind.is_empty() || behind.starts_with('/')).then(|| behind.trim_matches('/').to_owned())
        };
        let around = state
            .all_current()
            .filter_map(|storage| Some((storage.record.uri.len(), storage.record.id, below(&storage.record.uri)?)))
            .max_by_key(|(length, id, _)| (*length, *id));
        let Some((_, storage, behind)) = around else {
            return Err(Error::new(
                Reason::StorageNotFound,
                format!(
                    "No storage has a uri that the location '{fixed}' begins with. Create one first with CREATE STORAGE … URI \
                     '{fixed}'."
                ),
            )
            .with("location", fixed));
        };
        let relative = if behind.is_empty() { rest.to_owned() } else { format!("{behind}/{rest}") };
        Ok((storage, relative))
    }
}

fn from_template(error: TemplateError) -> Error {
    let message = error.to_string();
    match error {
        TemplateError::UnknownVariable { nearest: Some(nearest), .. } => {
            Error::new(Reason::InvalidTableDefinition, message).with("nearest", nearest)
        }
        _ => Error::new(Reason::InvalidTableDefinition, message),
    }
}

fn at(error: Error, position: Option<Position>) -> Error {
    match position {
        Some(position) => error.at(position),
        None => error,
    }
}
