//! Repositories of directories that look like hosts, with what web servers would answer.

use super::*;
use crate::host::directory::Directory;

fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    let host = Directory::new(dir.path());
    host.file("etc/os-release", "ID=centos\nVERSION_ID=\"7\"\nPRETTY_NAME=x\n").unwrap();
    host.file("proc/sys/kernel/arch", "x86_64\n").unwrap();
    host.file("proc/sys/kernel/osrelease", "3.10\n").unwrap();
    for (path, content) in files {
        host.file(path, content).unwrap();
    }
    let found = host.host();
    (dir, found)
}

/// `name: seen` of each repository, with a mark before those that serve.
async fn seen(host: &Host, asked: &[&str], own: bool) -> Vec<String> {
    let repositories = asked.iter().map(|&line| line.to_owned()).collect();
    let asked = Collect { repositories, own_repositories: own, ..Collect::default() };
    let mut gaps = Gaps::default();
    let all = look(host, &asked, &mut gaps).await.unwrap();
    assert_eq!(gaps.0, []);
    let line = |one: Repository| {
        format!("{}{}: {}", if one.serves { "+" } else { "-" }, one.name, one.seen)
    };
    all.found.into_iter().map(line).collect()
}

#[tokio::test]
async fn nothing_is_tried_that_nobody_asks_about() {
    let (_dir, host) = host(&[]);
    assert_eq!(look(&host, &Collect::default(), &mut Gaps::default()).await, None);
}

#[tokio::test]
async fn a_repository_serves_if_it_has_an_index_and_not_if_it_has_a_page() {
    let (_dir, host) = host(&[
        ("net/http/m:9000/ubuntu/dists/jammy/Release", "Suite: jammy\nSHA256:\n 0 1 main\n"),
        ("net/http/m:9000/rocky/repodata/repomd.xml", "<?xml?><repomd xmlns=\"x\">"),
        ("net/http/m:9000/flat/amd64/Packages", "Package: a\n"),
        ("net/http/proxy/centos/repodata/repomd.xml", "<html>Log in first</html>"),
    ]);
    let asked = [
        "deb [trusted=yes arch=amd64] http://m:9000/ubuntu/ jammy main",
        "http://m:9000/rocky/",
        "deb http://m:9000/flat amd64/",
        "http://proxy/centos",
        "deb http://m:9000/ubuntu noble main",
        "http://me:hunter2@gone/x",
    ];
    assert_eq!(
        seen(&host, &asked, false).await,
        [
            "+deb [trusted=yes arch=amd64] http://m:9000/ubuntu/ jammy main: \
             http://m:9000/ubuntu/dists/jammy/Release",
            "+http://m:9000/rocky/: http://m:9000/rocky/repodata/repomd.xml",
            "+deb http://m:9000/flat amd64/: http://m:9000/flat/amd64/Packages",
            "-http://proxy/centos: http://proxy/centos/repodata/repomd.xml is no index of packages",
            "-deb http://m:9000/ubuntu noble main: \
             http://m:9000/ubuntu/dists/noble/main/binary-amd64/Packages: 404 Not Found",
            "-http://gone/x: http://gone/x/repodata/repomd.xml: 404 Not Found",
        ]
    );
}

#[tokio::test]
async fn the_hosts_own_repositories_are_those_of_its_package_manager() {
    let repo = "[main]\ngpgcheck=1\n[base]\nname=Base\nbaseurl=http://m/centos/$releasever/os/$basearch/\n\
                [off]\nenabled=0\nbaseurl=http://gone\n\
                [mirrors]\nmirrorlist=http://l/?release=$releasever&infra=$infra\n";
    let sources = "Types: deb deb-src\nURIs: http://m/u\nSuites: jammy\nComponents: main\n\n\
                   Types: deb\nEnabled: no\nURIs: http://gone\nSuites: x\n";
    let (_dir, host) = host(&[
        ("etc/yum.repos.d/x.repo", repo),
        ("etc/yum.repos.d/x.repo.rpmsave", "[old]\nbaseurl=http://gone\n"),
        ("etc/yum/vars/infra", "stock\n"),
        (
            "etc/apt/sources.list",
            "# deb http://gone x\ndeb-src http://gone x\ndeb http://m/u flat/\n",
        ),
        ("etc/apt/sources.list.d/y.sources", sources),
        ("net/http/m/centos/7/os/x86_64/repodata/repomd.xml", "<repomd>"),
        ("net/http/m/u/dists/jammy/InRelease", "MD5Sum:\n"),
        ("net/http/m/u/flat/Release", "SHA256:\n"),
        ("net/http/l/?release=7&infra=stock", "http://m/centos/7\n"),
    ]);
    assert_eq!(
        seen(&host, &[], true).await,
        [
            "+deb http://m/u flat/: http://m/u/flat/Release",
            "+deb http://m/u jammy main: http://m/u/dists/jammy/InRelease",
            "+base: http://m/centos/7/os/x86_64/repodata/repomd.xml",
            "-mirrors: http://l/?release=7&infra=stock is no index of packages",
        ]
    );
}

#[tokio::test]
async fn a_real_web_server_is_asked() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            let good = request[..read].starts_with(b"GET /good/repodata/repomd.xml ");
            let (status, body) = if good { ("200 OK", "<repomd>") } else { ("404 Gone", "no") };
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let (good, bad) =
        (format!("http://127.0.0.1:{port}/good"), format!("http://127.0.0.1:{port}/x"));
    let machine = Host::machine();
    let answers = seen(&machine, &[&good, &bad], false).await;
    assert!(answers[0].starts_with('+'), "{answers:?}");
    assert!(answers[1].starts_with('-') && answers[1].contains("404"), "{answers:?}");
}
