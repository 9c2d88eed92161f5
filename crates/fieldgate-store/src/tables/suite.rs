//! What every engine of the tables must do: the same writes give the same rows, also after a restart.

use proptest::prelude::*;

use super::{Table, Tables, Write, fjall::FjallTables, memory::MemoryTables};

fn rows(tables: &dyn Tables) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for table in Table::ALL {
        tables
            .scan(table, &mut |key, value| {
                all.push((table, key.to_vec(), value.to_vec()));
                Ok(())
            })
            .unwrap();
    }
    all
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Write>),
    Reset,
    Reopen,
}

fn write() -> impl Strategy<Value = Write> {
    let table = proptest::sample::select(Table::ALL.to_vec());
    let key = proptest::collection::vec(0u8..4, 1..3);
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60));
    (table, key, value).prop_map(|(table, key, value)| Write { table, key, value })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(write(), 0..12).prop_map(|mut writes| {
            writes.sort_by(|a, b| (a.table, &a.key).cmp(&(b.table, &b.key)));
            writes.dedup_by(|a, b| (a.table, &a.key) == (b.table, &b.key));
            Step::Commit(writes)
        }),
        1 => Just(Step::Reset),
        2 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn both_engines_hold_the_same_rows(steps in proptest::collection::vec(step(), 1..12)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tables");
        let open = || {
            let (tables, opened) = FjallTables::new(path.clone());
            opened.unwrap();
            tables
        };
        let (mut disk, mut memory) = (Some(open()), MemoryTables::default());
        for step in steps {
            let tables = disk.as_mut().unwrap();
            match step {
                Step::Commit(writes) => {
                    tables.commit(writes.clone()).unwrap();
                    memory.commit(writes).unwrap();
                }
                Step::Reset => {
                    tables.reset().unwrap();
                    memory.reset().unwrap();
                }
                Step::Reopen => {
                    drop(disk.take());
                    disk = Some(open());
                }
            }
            prop_assert_eq!(rows(disk.as_ref().unwrap()), rows(&memory));
        }
    }
}
