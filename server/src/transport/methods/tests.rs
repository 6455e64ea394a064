use prost::Message;

use super::*;

#[test]
fn every_method_of_the_api_is_here() {
    let descriptors = prost_descriptors();
    for (path, service) in &descriptors {
        let index = find(path).unwrap_or_else(|| panic!("{path} is not served"));
        assert!(!METHODS[index].service.is_open(), "{service} needs an identity");
    }
    let ours = METHODS.iter().filter(|method| !method.service.is_open()).count();
    assert_eq!(ours, descriptors.len());
    assert_eq!(find("/kalamdb.v1.QueryService/Nothing"), None);
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
