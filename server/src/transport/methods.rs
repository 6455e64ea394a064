//! The methods that the server has, by path, and who may call each: the role matrix for calls.

use kalamdb_engine::{Caller, Error, Rights};

/// Which service answers a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Query,
    Subscribe,
    Flush,
    Admin,
    Auth,
    Flight,
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

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Callers {
    /// Whoever can connect, without a credential.
    Anybody,
    /// Those whom the role matrix lets. The engine checks again what the call is about.
    Roles(Rights),
}

/// A method.
pub(crate) struct Method {
    pub(crate) path: &'static str,
    /// The path without its first slash, as metrics and logs name it.
    pub(crate) name: &'static str,
    pub(crate) service: Service,
    pub(crate) callers: Callers,
    /// Whether its answer is a stream, which can last.
    pub(crate) streams: bool,
}

impl Method {
    /// Checks that a caller may call it.
    ///
    /// # Errors
    /// PERMISSION_DENIED.
    pub(crate) fn check(&self, caller: &Caller) -> Result<(), Error> {
        match self.callers {
            Callers::Anybody => Ok(()),
            Callers::Roles(rights) => rights.check(caller, self.name.rsplit('.').next().unwrap_or(self.name)),
        }
    }
}

/// A method without a word on who may call it does not compile.
macro_rules! methods {
    ($($service:ident $name:literal $callers:ident $(, $streams:ident)?;)*) => {
        /// Every method, the most frequent first.
        pub(crate) const METHODS: &[Method] = &[$(Method {
            path: concat!("/", $name),
            name: $name,
            service: Service::$service,
            callers: methods!(@callers $callers),
            streams: methods!(@streams $($streams)?),
        },)*];
    };
    (@callers Anybody) => { Callers::Anybody };
    (@callers $rights:ident) => { Callers::Roles(Rights::$rights) };
    (@streams) => { false };
    (@streams streams) => { true };
}

methods! {
    Query "kalamdb.v1.QueryService/Execute" OWN;
    Query "kalamdb.v1.QueryService/ExecuteStream" OWN, streams;
    Subscribe "kalamdb.v1.SubscribeService/Subscribe" OWN, streams;
    Flush "kalamdb.v1.FlushService/FlushTable" OPERATOR, streams;
    Flush "kalamdb.v1.FlushService/FlushAllTables" OPERATOR, streams;
    Admin "kalamdb.v1.AdminService/ListNamespaces" OWN;
    Admin "kalamdb.v1.AdminService/CreateNamespace" OPERATOR;
    Admin "kalamdb.v1.AdminService/AlterNamespace" OPERATOR;
    Admin "kalamdb.v1.AdminService/DropNamespace" OPERATOR;
    Admin "kalamdb.v1.AdminService/ListTables" OWN;
    Admin "kalamdb.v1.AdminService/GetTable" OWN;
    Admin "kalamdb.v1.AdminService/DropTable" OPERATOR;
    Admin "kalamdb.v1.AdminService/ListSchemaVersions" OWN;
    Admin "kalamdb.v1.AdminService/GetTableStats" OWN;
    Admin "kalamdb.v1.AdminService/ListSegments" OPERATOR;
    Admin "kalamdb.v1.AdminService/CompactTable" OPERATOR;
    Admin "kalamdb.v1.AdminService/ListStorages" OPERATOR;
    Admin "kalamdb.v1.AdminService/CreateStorage" OPERATOR;
    Admin "kalamdb.v1.AdminService/AlterStorage" OPERATOR;
    Admin "kalamdb.v1.AdminService/DropStorage" OPERATOR;
    Admin "kalamdb.v1.AdminService/ListUsers" OPERATOR_OR_OWN;
    Admin "kalamdb.v1.AdminService/GetUser" OPERATOR_OR_OWN;
    Admin "kalamdb.v1.AdminService/CreateUser" BELOW;
    Admin "kalamdb.v1.AdminService/AlterUser" BELOW_OR_SELF;
    Admin "kalamdb.v1.AdminService/DropUser" BELOW;
    Admin "kalamdb.v1.AdminService/CreateApiKey" BELOW;
    Admin "kalamdb.v1.AdminService/ListApiKeys" OPERATOR_OR_OWN;
    Admin "kalamdb.v1.AdminService/RevokeApiKey" BELOW_OR_SELF;
    Admin "kalamdb.v1.AdminService/Export" OWN, streams;
    Admin "kalamdb.v1.AdminService/BackupDatabase" OPERATOR, streams;
    Admin "kalamdb.v1.AdminService/RestoreDatabase" OPERATOR, streams;
    Admin "kalamdb.v1.AdminService/DescribeBackup" OPERATOR;
    Admin "kalamdb.v1.AdminService/ListJobs" OPERATOR;
    Admin "kalamdb.v1.AdminService/GetJob" OPERATOR;
    Admin "kalamdb.v1.AdminService/ListLiveQueries" OPERATOR_OR_OWN;
    Admin "kalamdb.v1.AdminService/KillLiveQuery" OPERATOR_OR_OWN;
    Admin "kalamdb.v1.AdminService/ListSettings" OPERATOR;
    Admin "kalamdb.v1.AdminService/GetServerInfo" ANYBODY;
    Auth "kalamdb.v1.AuthService/Login" Anybody;
    Auth "kalamdb.v1.AuthService/Refresh" Anybody;
    Auth "kalamdb.v1.AuthService/Logout" ANYBODY;
    Auth "kalamdb.v1.AuthService/WhoAmI" ANYBODY;
    Flight "arrow.flight.protocol.FlightService/GetFlightInfo" OWN;
    Flight "arrow.flight.protocol.FlightService/DoGet" OWN, streams;
    Flight "arrow.flight.protocol.FlightService/DoPut" OWN, streams;
    Flight "arrow.flight.protocol.FlightService/DoAction" OWN;
    Flight "arrow.flight.protocol.FlightService/GetSchema" OWN;
    Flight "arrow.flight.protocol.FlightService/PollFlightInfo" OWN;
    Flight "arrow.flight.protocol.FlightService/ListFlights" OWN;
    Flight "arrow.flight.protocol.FlightService/ListActions" ANYBODY;
    Flight "arrow.flight.protocol.FlightService/DoExchange" ANYBODY, streams;
    Flight "arrow.flight.protocol.FlightService/Handshake" Anybody;
    Health "grpc.health.v1.Health/Check" Anybody;
    Health "grpc.health.v1.Health/List" Anybody;
    Health "grpc.health.v1.Health/Watch" Anybody, streams;
    Reflection "grpc.reflection.v1.ServerReflection/ServerReflectionInfo" Anybody, streams;
}

/// Index of the method with this path.
pub(crate) fn find(path: &str) -> Option<usize> {
    METHODS.iter().position(|method| method.path == path)
}

#[cfg(test)]
mod tests;
