//! The methods that the server has, by path.

/// Which service answers a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Query,
    Subscribe,
    Flush,
    Admin,
    Health,
    Reflection,
}

impl Service {
    /// Health and reflection are for load balancers and tools: they need no identity, and answer when the server is
    /// too busy for more calls.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Service::Health | Service::Reflection)
    }
}

/// A method.
pub(crate) struct Method {
    pub(crate) path: &'static str,
    /// The path without its first slash, as metrics and logs name it.
    pub(crate) name: &'static str,
    pub(crate) service: Service,
}

macro_rules! methods {
    ($($service:ident $name:literal,)*) => {
        /// Every method, the most frequent first.
        pub(crate) const METHODS: &[Method] =
            &[$(Method { path: concat!("/", $name), name: $name, service: Service::$service },)*];
    };
}

methods! {
    Query "kalamdb.v1.QueryService/Execute",
    Query "kalamdb.v1.QueryService/ExecuteStream",
    Subscribe "kalamdb.v1.SubscribeService/Subscribe",
    Flush "kalamdb.v1.FlushService/FlushTable",
    Flush "kalamdb.v1.FlushService/FlushAllTables",
    Admin "kalamdb.v1.AdminService/ListNamespaces",
    Admin "kalamdb.v1.AdminService/CreateNamespace",
    Admin "kalamdb.v1.AdminService/AlterNamespace",
    Admin "kalamdb.v1.AdminService/DropNamespace",
    Admin "kalamdb.v1.AdminService/ListTables",
    Admin "kalamdb.v1.AdminService/GetTable",
    Admin "kalamdb.v1.AdminService/DropTable",
    Admin "kalamdb.v1.AdminService/ListSchemaVersions",
    Admin "kalamdb.v1.AdminService/GetTableStats",
    Admin "kalamdb.v1.AdminService/ListSegments",
    Admin "kalamdb.v1.AdminService/CompactTable",
    Admin "kalamdb.v1.AdminService/ListStorages",
    Admin "kalamdb.v1.AdminService/CreateStorage",
    Admin "kalamdb.v1.AdminService/AlterStorage",
    Admin "kalamdb.v1.AdminService/DropStorage",
    Admin "kalamdb.v1.AdminService/ListJobs",
    Admin "kalamdb.v1.AdminService/GetJob",
    Admin "kalamdb.v1.AdminService/ListLiveQueries",
    Admin "kalamdb.v1.AdminService/KillLiveQuery",
    Admin "kalamdb.v1.AdminService/ListSettings",
    Admin "kalamdb.v1.AdminService/GetServerInfo",
    Health "grpc.health.v1.Health/Check",
    Health "grpc.health.v1.Health/List",
    Health "grpc.health.v1.Health/Watch",
    Reflection "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
}

/// Index of the method with this path.
pub(crate) fn find(path: &str) -> Option<usize> {
    METHODS.iter().position(|method| method.path == path)
}

#[cfg(test)]
mod tests;
