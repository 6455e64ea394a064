//! Every call of the API, from its own description: what is not thought of is seen.

use kalamdb_proto::FILE_DESCRIPTOR_SET;
use prost::Message;

/// A call of the API.
#[derive(Debug, Clone)]
pub struct ApiMethod {
    /// The path of gRPC, with its first slash.
    pub path: String,
    /// The fields of its request.
    pub fields: Vec<ApiField>,
    /// Whether it answers a stream.
    pub streams: bool,
}

/// A field of a request.
#[derive(Debug, Clone)]
pub struct ApiField {
    /// Its name, as in the `.proto` file.
    pub name: String,
    /// Its name in JSON.
    pub json_name: String,
    /// Its number.
    pub number: u32,
    /// What it holds.
    pub kind: FieldKind,
    /// Whether it is a list or a map.
    pub repeated: bool,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// A text.
    Text,
    /// An integer or an enum.
    Integer,
    /// True or false.
    Boolean,
    /// Anything else.
    Other,
}

/// Every call that the `.proto` files of KalamDB have.
pub fn api_methods() -> Vec<ApiMethod> {
    let set = FileSet::decode(FILE_DESCRIPTOR_SET).expect("the description of the API");
    let mut methods = Vec::new();
    for file in &set.files {
        for service in &file.services {
            for method in &service.methods {
                let fields = set.message(&method.input).fields.iter().map(field).collect();
                let path = format!("/{}.{}/{}", file.package, service.name, method.name);
                methods.push(ApiMethod { path, fields, streams: method.server_streaming });
            }
        }
    }
    assert!(methods.len() > 20, "{methods:?}");
    methods
}

fn field(field: &Field) -> ApiField {
    let kind = match field.kind {
        9 => FieldKind::Text,
        8 => FieldKind::Boolean,
        3 | 4 | 5 | 13 | 14 | 17 | 18 => FieldKind::Integer,
        _ => FieldKind::Other,
    };
    let json_name = if field.json_name.is_empty() { camel_case(&field.name) } else { field.json_name.clone() };
    ApiField {
        name: field.name.clone(),
        json_name,
        number: field.number.unsigned_abs(),
        kind,
        repeated: field.label == REPEATED,
    }
}

fn camel_case(name: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.extend(c.to_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out
}

const REPEATED: i32 = 3;

impl FileSet {
    /// The message with this whole name, which begins with a dot.
    fn message(&self, name: &str) -> &MessageOf {
        let found = self.files.iter().find_map(|file| {
            let own = name.strip_prefix(&format!(".{}.", file.package))?;
            file.messages.iter().find(|message| message.name == own)
        });
        found.unwrap_or_else(|| panic!("no message {name}"))
    }
}

#[derive(Clone, PartialEq, Message)]
struct FileSet {
    #[prost(message, repeated, tag = "1")]
    files: Vec<File>,
}

#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "4")]
    messages: Vec<MessageOf>,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Service>,
}

#[derive(Clone, PartialEq, Message)]
struct MessageOf {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    fields: Vec<Field>,
}

#[derive(Clone, PartialEq, Message)]
struct Field {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "3")]
    number: i32,
    #[prost(int32, tag = "4")]
    label: i32,
    #[prost(int32, tag = "5")]
    kind: i32,
    #[prost(string, tag = "10")]
    json_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<Method>,
}

#[derive(Clone, PartialEq, Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    input: String,
    #[prost(bool, tag = "6")]
    server_streaming: bool,
}
