use kalamdb_engine::{Role, SYSTEM_TABLES, StatementKind};
use prost::Message;

use super::*;

#[test]
fn every_method_of_the_api_is_here() {
    let descriptors = prost_descriptors();
    for (path, service) in &descriptors {
        let index = find(path).unwrap_or_else(|| panic!("{path} is not served"));
        assert!(!METHODS[index].service.is_open(), "{service} is of the API");
    }
    let ours = METHODS.iter().filter(|method| method.name.starts_with("kalamdb.")).count();
    assert_eq!(ours, descriptors.len());
    assert_eq!(find("/kalamdb.v1.QueryService/Nothing"), None);
}

#[test]
fn every_method_of_flight_is_here() {
    let served: Vec<&str> = METHODS
        .iter()
        .filter(|method| method.service == Service::Flight)
        .map(|method| method.name.strip_prefix(crate::flight::SERVICE_NAME).unwrap())
        .collect();
    let known = [
        "Handshake",
        "ListFlights",
        "GetFlightInfo",
        "PollFlightInfo",
        "GetSchema",
        "DoGet",
        "DoPut",
        "DoExchange",
        "DoAction",
        "ListActions",
    ];
    assert_eq!(served.len(), known.len());
    for name in known {
        assert!(served.contains(&format!("/{name}").as_str()), "{name} is not served");
    }
}

/// Paths and services of the compiled `.proto` files.
fn prost_descriptors() -> Vec<(String, String)> {
    #[derive(Clone, PartialEq, Message)]
    struct FileSet {
        #[prost(message, repeated, tag = "1")]
        files: Vec<File>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct File {
        #[prost(string, tag = "2")]
        package: String,
        #[prost(message, repeated, tag = "6")]
        services: Vec<ServiceOf>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct ServiceOf {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, repeated, tag = "2")]
        methods: Vec<MethodOf>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct MethodOf {
        #[prost(string, tag = "1")]
        name: String,
    }

    let set = FileSet::decode(kalamdb_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut paths = Vec::new();
    for file in set.files {
        for service in file.services {
            for method in service.methods {
                paths.push((format!("/{}.{}/{}", file.package, service.name, method.name), service.name.clone()));
            }
        }
    }
    paths
}

/// Where the matrix is shown to people.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/architecture/access.md");

#[test]
fn the_documented_matrix_is_that_of_the_code() {
    let text = std::fs::read_to_string(DOCUMENT).unwrap();
    let mut wanted = text.clone();
    for (name, table) in [("calls", calls()), ("statements", statements()), ("system tables", system_tables())] {
        wanted = with_table(&wanted, name, &table);
    }
    if text != wanted && std::env::var_os("KALAMDB_UPDATE_DOCS").is_some() {
        std::fs::write(DOCUMENT, &wanted).unwrap();
        return;
    }
    assert_eq!(
        text, wanted,
        "run this test with KALAMDB_UPDATE_DOCS=1 to bring docs/architecture/access.md up to date"
    );
}

#[test]
fn only_health_reflection_and_logging_in_need_no_credential() {
    let open = METHODS.iter().filter(|method| method.callers == Callers::Anybody).map(|method| method.name);
    let known = ["/Login", "/Refresh", "/Handshake"];
    for name in open {
        let is_known = name.starts_with("grpc.") || known.iter().any(|known| name.ends_with(known));
        assert!(is_known, "{name} can be called by anybody");
    }
}

/// The text with the lines between `<!-- name -->` and `<!-- end -->` replaced.
fn with_table(text: &str, name: &str, table: &str) -> String {
    let (before, rest) = text.split_once(&format!("<!-- {name} -->\n")).unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    format!("{before}<!-- {name} -->\n{table}<!-- end -->{after}")
}

fn row<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> String {
    let cells: Vec<T> = cells.into_iter().collect();
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn grants(rights: Rights) -> [String; 4] {
    Role::ALL.map(|role| rights.of(role).as_str().to_owned())
}

fn calls() -> String {
    let mut table = row(["call", "user", "service", "dba", "system"]) + &row(["---"; 5]);
    for method in METHODS {
        let may = match method.callers {
            Callers::Anybody => ["without a credential", "", "", ""].map(str::to_owned),
            Callers::Roles(rights) => grants(rights),
        };
        table += &row([format!("`{}`", method.name)].into_iter().chain(may));
    }
    table
}

fn statements() -> String {
    let mut table = row(["statement", "user", "service", "dba", "system", "audited"]) + &row(["---"; 6]);
    for kind in StatementKind::ALL {
        let audited = if kind.is_audited() { "yes" } else { "" };
        let name = format!("`{}`", kind.as_sql());
        table += &row([name].into_iter().chain(grants(kind.rights())).chain([audited.to_owned()]));
    }
    table
}

fn system_tables() -> String {
    let mut table = row(["table", "", "user", "service", "dba", "system"]) + &row(["---"; 6]);
    for line in SYSTEM_TABLES {
        let name = format!("`{}.{}`", line.namespace, line.table);
        table += &row([name, "read".to_owned()].into_iter().chain(grants(line.read)));
        table += &row([String::new(), "write".to_owned()].into_iter().chain(grants(line.write)));
    }
    table
}
