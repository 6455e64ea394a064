use std::os::unix::fs::symlink;

use super::*;

fn outside(result: Result<PathBuf, ObjectError>) -> bool {
    matches!(result, Err(ObjectError::Invalid(message)) if message.contains("storage.roots"))
}

#[test]
fn folders_are_made_below_the_roots_only() {
    let temp = tempfile::tempdir().unwrap();
    let base = temp.path().canonicalize().unwrap();
    let root = base.join("root");
    fs::create_dir(&root).unwrap();
    let roots = FolderRoots::new(vec![root.clone()]);

    assert_eq!(roots.make(&root.join("a/b/c")).unwrap(), root.join("a/b/c"));
    assert_eq!(roots.make(&root.join("a/b/c")).unwrap(), root.join("a/b/c"));
    assert_eq!(roots.make(&root).unwrap(), root);
    assert!(outside(roots.make(&base.join("other"))));
    assert!(outside(roots.make(&base.join("root2"))));
    assert!(outside(roots.make(&base)));
    assert!(!base.join("other").exists() && !base.join("root2").exists());
    assert!(outside(FolderRoots::default().make(&root)));

    fs::write(root.join("file"), "").unwrap();
    assert!(matches!(roots.make(&root.join("file")), Err(ObjectError::Invalid(_))));
    assert!(matches!(roots.make(&root.join("file/x")), Err(ObjectError::Invalid(_))));
    assert!(matches!(roots.existing(&root.join("missing")), Err(ObjectError::Unreachable(_))));
}

#[test]
fn links_do_not_lead_out() {
    let temp = tempfile::tempdir().unwrap();
    let base = temp.path().canonicalize().unwrap();
    let (root, elsewhere) = (base.join("root"), base.join("elsewhere"));
    fs::create_dir(&root).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, root.join("out")).unwrap();
    symlink(base.join("nowhere"), root.join("dangling")).unwrap();
    symlink(&root, base.join("alias")).unwrap();
    let roots = FolderRoots::new(vec![root.clone()]);

    assert!(outside(roots.make(&root.join("out"))));
    assert!(outside(roots.make(&root.join("out/new"))));
    assert!(outside(roots.existing(&root.join("out"))));
    assert!(!elsewhere.join("new").exists());
    assert!(roots.make(&root.join("dangling/x")).is_err());
    assert!(!base.join("nowhere").exists());
    // A link to the root is a way in, not out.
    assert_eq!(roots.make(&base.join("alias/in")).unwrap(), root.join("in"));
}

#[test]
fn of_the_data_directory_only_the_storage_folder() {
    let temp = tempfile::tempdir().unwrap();
    let base = temp.path().canonicalize().unwrap();
    let own = base.join("data/storage");
    fs::create_dir_all(&own).unwrap();
    let roots = FolderRoots::new(vec![base.clone()]).with_data_dir(base.join("data"), Some(own.clone()));
    assert!(roots.make(&own.join("x")).is_ok());
    assert!(roots.make(&base.join("beside")).is_ok());
    let error = roots.make(&base.join("data/rocksdb")).unwrap_err();
    assert!(error.to_string().contains("only the folder 'storage'"), "{error}");
    assert!(!base.join("data/rocksdb").exists());
}
