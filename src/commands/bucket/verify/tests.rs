use super::*;
use crate::commands::bucket::test_bucket::TestBucket;

async fn check(bucket: &TestBucket, sample: Option<usize>) -> Verified {
    let keys = vec![bucket.key.public_key().clone()];
    verify(bucket.open().await, StoreDir::default(), keys, sample).await.unwrap()
}

#[tokio::test]
async fn a_bucket_that_is_right_has_no_faults() {
    let bucket = TestBucket::new(3);
    let Verified { paths, files, bytes, faults } = check(&bucket, None).await;
    assert_eq!((paths, files, faults), (3, 3, Vec::new()));
    let sizes = bucket.files.iter().map(|file| bucket.path(file).metadata().unwrap().len());
    assert_eq!(bytes, sizes.sum::<u64>());
    assert_eq!(check(&bucket, Some(2)).await.paths, 2);
    assert_eq!(check(&bucket, Some(0)).await, Verified::default());
}

#[tokio::test]
async fn each_fault_is_found_and_names_its_object() {
    type Break = fn(&TestBucket);
    let cases: [(Break, &[(usize, &str)]); 7] = [
        (|it| std::fs::remove_file(it.path(&it.files[1])).unwrap(), &[(1, "is not there")]),
        (|it| std::fs::remove_file(it.path(&it.names[0])).unwrap(), &[(1, "its reference")]),
        (|it| std::fs::write(it.path(&it.files[2]), "short").unwrap(), &[(2, "has 5 bytes, but FileSize is")]),
        (|it| it.damage(0), &[(0, "nar/")]),
        (|it| it.edit(2, "NarSize: ", "NarSize: 1"), &[(2, "no trusted key has signed it")]),
        (
            |it| assert!(std::fs::copy(it.path(&it.names[0]), it.path(&it.names[1])).is_ok()),
            &[(1, "about another path")],
        ),
        (|it| std::fs::write(it.path(&it.names[0]), "Sig").unwrap(), &[(0, "")]),
    ];
    for (number, (break_it, expected)) in cases.into_iter().enumerate() {
        let bucket = TestBucket::new(3);
        break_it(&bucket);
        let faults = check(&bucket, None).await.faults;
        assert_eq!(faults.len(), expected.len(), "{number}: {faults:?}");
        for (fault, (path, words)) in faults.iter().zip(expected) {
            assert!(fault.starts_with(&bucket.names[*path]) && fault.contains(words), "{number}: {fault}");
        }
    }
}

#[tokio::test]
async fn a_bucket_needs_the_info_of_this_store() {
    let bucket = TestBucket::new(1);
    std::fs::write(bucket.path("nix-cache-info"), "StoreDir: /other\n").unwrap();
    assert_eq!(check(&bucket, None).await.faults, ["nix-cache-info: it is of /other, not of /nix/store"]);
    std::fs::remove_file(bucket.path("nix-cache-info")).unwrap();
    assert!(check(&bucket, None).await.faults[0].starts_with("nix-cache-info: it is not there"));
}
