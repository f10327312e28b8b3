use tokio::sync::watch;

/// One-way switch from running to stopping, shared by all parts of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown {
    state: watch::Sender<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    pub fn new() -> Self {
        Self {
            state: watch::Sender::new(false),
        }
    }

    /// A switch that SIGTERM and SIGINT turn. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the process may not install signal handlers.
    pub fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let shutdown = Self::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let switch = shutdown.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                () = switch.cancelled() => return,
            };
            tracing::info!(signal = name, "stopping");
            switch.trigger();
        });
        Ok(shutdown)
    }

    pub fn trigger(&self) {
        self.state.send_replace(true);
    }

    pub fn is_triggered(&self) -> bool {
        *self.state.borrow()
    }

    /// Returns once [`Self::trigger`] was called, at once if it already was.
    pub async fn cancelled(&self) {
        let mut state = self.state.subscribe();
        // The sender lives in `self`, so waiting cannot fail while we are borrowed.
        let _ = state.wait_for(|stopping| *stopping).await;
    }

    /// Triggered with this one, but triggering it leaves this one alone: for a part that may be stopped by itself.
    #[must_use]
    pub fn child(&self) -> Self {
        let (child, parent) = (Self::new(), self.clone());
        let switch = child.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = parent.cancelled() => switch.trigger(),
                () = switch.cancelled() => {}
            }
        });
        child
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_hears_of_it_also_who_comes_late() {
        let shutdown = Shutdown::new();
        let early = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.cancelled().await }
        });
        assert!(!shutdown.is_triggered());
        shutdown.trigger();
        early.await.unwrap();
        shutdown.cancelled().await;
        assert!(shutdown.is_triggered());
    }

    #[tokio::test]
    async fn a_child_stops_with_its_parent_and_not_the_other_way_round() {
        let parent = Shutdown::new();
        let (one, other) = (parent.child(), parent.child());
        one.trigger();
        one.cancelled().await;
        assert!(!parent.is_triggered() && !other.is_triggered());
        parent.trigger();
        other.cancelled().await;
    }
}
