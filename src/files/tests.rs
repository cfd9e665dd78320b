use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

#[test]
fn only_regular_files_are_opened_and_nothing_waits() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "text").unwrap();
    fs::create_dir(at("folder")).unwrap();
    fifo(&at("fifo"));
    let _socket = UnixListener::bind(at("socket")).unwrap();
    symlink("file", at("link")).unwrap();
    symlink("round", at("round")).unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    assert_eq!(io::read_to_string(folder.read("file").unwrap()).unwrap(), "text");
    let refused = |name: &str| {
        [folder.read(name), folder.create(name, FILE), folder.append(name, FILE)]
            .map(|opened| Refused::of(&opened.unwrap_err()).cloned())
    };
    for (name, kind) in [("folder", Kind::Directory), ("fifo", Kind::Fifo), ("socket", Kind::Socket)] {
        assert_eq!(refused(name), [(); 3].map(|()| Some(Refused::NotAFile(kind))), "{name}");
    }
    for name in ["link", "round"] {
        let link = Refused::Link { path: name.into(), folder: dir.path().to_owned() };
        assert_eq!(refused(name), [(); 3].map(|()| Some(link.clone())), "{name}");
    }
    assert_eq!(
        Folder::open(Path::new("/dev")).unwrap().read("zero").unwrap_err().to_string(),
        "it is a device, not a regular file"
    );
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "text", "nothing was emptied");
    assert_eq!(folder.read("nothing").unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn no_link_is_followed_below_the_folder_and_the_folder_may_be_one() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir_all(dir.path().join("real/a/b")).unwrap();
    fs::write(out.path().join("file"), "theirs").unwrap();
    symlink(dir.path().join("real"), dir.path().join("chosen")).unwrap();
    symlink(out.path(), dir.path().join("real/a/out")).unwrap();
    let base = dir.path().join("chosen");
    Folder::open_below(&base, &base.join("a/b")).unwrap();
    for below in ["a/out", "a/out/deeper"] {
        let refused = Folder::open_below(&base, &base.join(below)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "a/out is a link, and below {} none is followed; put what it leads to in its place",
                base.display()
            )
        );
    }
    let path = base.join("a/out/file");
    assert!(Folder::of(&base, &path).is_err());
    // What is removed is the link, not what it leads to.
    Folder::open(&base).unwrap().remove_all("a").unwrap();
    assert_eq!(fs::read_to_string(out.path().join("file")).unwrap(), "theirs");
    assert!(!dir.path().join("real/a").exists());
}

#[test]
fn folders_in_each_other_are_removed_and_not_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
    fs::write(dir.path().join("a/b/file"), "").unwrap();
    folder.remove_all("a").unwrap();
    folder.remove_all("a").unwrap();
    assert_eq!(folder.list().unwrap(), []);
    fs::create_dir_all(dir.path().join("d/".repeat(MAX_REMOVED_DEPTH + 1))).unwrap();
    assert_eq!(Refused::of(&folder.remove_all("d").unwrap_err()), Some(&Refused::TooDeep));
}

#[test]
fn private_files_are_private_even_if_they_were_not() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    fs::write(dir.path().join("old"), "line\n").unwrap();
    fs::set_permissions(dir.path().join("old"), Permissions::from_mode(0o664)).unwrap();
    folder.append("old", PRIVATE_FILE).unwrap().write_all(b"line\n").unwrap();
    folder.create_new("new", PRIVATE_FILE).unwrap();
    assert!(folder.create_new("new", PRIVATE_FILE).is_err());
    folder.make("folder", PRIVATE_FOLDER).unwrap();
    assert_eq!(["old", "new", "folder"].map(|name| mode(&dir.path().join(name))), [0o600, 0o600, 0o700]);
    fs::set_permissions(dir.path().join("folder"), Permissions::from_mode(0o755)).unwrap();
    folder.below(Path::new("folder")).unwrap().make_private().unwrap();
    assert_eq!(mode(&dir.path().join("folder")), 0o700);
    assert_eq!(fs::read_to_string(dir.path().join("old")).unwrap(), "line\nline\n");
}
