//! What a tenant does while its data moves: it writes, reads, and keeps count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::{eventually, when};

/// What came of a write.
pub(crate) enum Written {
    /// A key and its value.
    Put(String, String),
    Deleted(String),
    Refused,
}

pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    /// Keys of which the store said that they are written.
    written: Arc<Mutex<BTreeMap<String, String>>>,
    refused: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Writes, with a number that grows, and reads one after another until it is stopped.
    pub(crate) fn start<W, R>(
        mut write: impl FnMut(usize) -> W + Send + 'static,
        mut read: impl FnMut() -> R + Send + 'static,
    ) -> Self
    where
        W: Future<Output = Written> + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let written = Arc::new(Mutex::new(BTreeMap::new()));
        let writer = {
            let (stop, refused, written) = (stop.clone(), refused.clone(), written.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let mut pause = Duration::from_millis(1);
                    match write(number).await {
                        Written::Put(key, value) => drop(written.lock().await.insert(key, value)),
                        Written::Deleted(key) => drop(written.lock().await.remove(&key)),
                        Written::Refused => {
                            refused.fetch_add(1, Ordering::SeqCst);
                            pause = Duration::from_millis(5);
                        }
                    }
                    tokio::time::sleep(pause).await;
                }
            })
        };
        let reader = {
            let stop = stop.clone();
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    read().await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        };
        Self {
            stop,
            written,
            refused,
            tasks: vec![writer, reader],
        }
    }

    /// Until one more is refused.
    pub(crate) async fn until_refused(&self) {
        let before = self.refused.load(Ordering::SeqCst);
        eventually("writes wait", || async {
            let now = self.refused.load(Ordering::SeqCst);
            when(now > before, || "none is refused".to_owned())
        })
        .await;
    }

    /// Until some more are taken.
    pub(crate) async fn until_writing(&self) {
        let before = self.written.lock().await.len();
        eventually("writes go on", || async {
            let now = self.written.lock().await.len();
            when(now > before + 5, || format!("{before} {now}"))
        })
        .await;
    }

    /// What was written last under each key.
    pub(crate) async fn end(self) -> BTreeMap<String, String> {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut *self.written.lock().await)
    }

    /// The same as [`Self::end`] where the store may be gone by now, and reads with it.
    pub(crate) async fn end_where_it_was_left(self) -> BTreeMap<String, String> {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            let _ = task.await;
        }
        std::mem::take(&mut *self.written.lock().await)
    }
}

/// One key again and again, and new ones.
pub(crate) fn written_name(number: usize) -> String {
    let number = if number.is_multiple_of(2) { number } else { 1 };
    format!("secrets/default/{number}")
}
