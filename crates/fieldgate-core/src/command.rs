//! The life of a command: `queued → sent → acknowledged → completed | failed | expired | cancelled`.
//!
//! Pure. Source: `guarantees.md`, "Commands". Invariant: an end stands; whoever comes later, by the
//! order of the log, changes nothing.

use crate::dialect::CommandState;

/// Why a command does not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoMove {
    /// It is in that state or behind it: a repeat, which the asker may take for done.
    #[error("the command is already past that")]
    Already,
    /// It came to its end before.
    #[error("the command already ended: {0:?}")]
    Ended(CommandState),
    /// It was never handed to its device, which therefore cannot have answered.
    #[error("the command was not sent yet")]
    NotSent,
}

impl CommandState {
    /// Tells whether this is an end.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Expired | Self::Cancelled)
    }
}

/// Decides whether a command goes from `current` to `wanted`, and returns where it then is.
///
/// A reply stands for the acknowledgement that a device left out. Time and the sender may end a
/// command in any state before its end; only the device completes or fails it, and only after it
/// was sent.
///
/// # Errors
///
/// Why it stays where it is.
pub const fn next_state(
    current: CommandState,
    wanted: CommandState,
) -> Result<CommandState, NoMove> {
    use CommandState as S;
    match (current, wanted) {
        (S::Completed | S::Failed | S::Expired | S::Cancelled, _) => Err(NoMove::Ended(current)),
        (_, S::Queued) | (S::Sent | S::Acknowledged, S::Sent) => Err(NoMove::Already),
        (S::Acknowledged, S::Acknowledged) => Err(NoMove::Already),
        (S::Queued, S::Acknowledged | S::Completed | S::Failed) => Err(NoMove::NotSent),
        (S::Queued, S::Sent)
        | (S::Sent, S::Acknowledged)
        | (S::Sent | S::Acknowledged, S::Completed | S::Failed)
        | (S::Queued | S::Sent | S::Acknowledged, S::Expired | S::Cancelled) => Ok(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandState as S, *};

    const ALL: [S; 7] =
        [S::Queued, S::Sent, S::Acknowledged, S::Completed, S::Failed, S::Expired, S::Cancelled];

    #[test]
    fn an_end_stands() {
        for end in ALL.into_iter().filter(|state| state.is_end()) {
            for wanted in ALL {
                assert_eq!(next_state(end, wanted), Err(NoMove::Ended(end)));
            }
        }
    }

    #[test]
    fn a_command_only_goes_forward() {
        for current in ALL {
            for wanted in ALL {
                if let Ok(next) = next_state(current, wanted) {
                    assert!(next == wanted && next > current, "{current:?} {wanted:?}");
                }
            }
        }
    }

    #[test]
    fn only_a_command_that_was_sent_is_answered() {
        for wanted in [S::Acknowledged, S::Completed, S::Failed] {
            assert_eq!(next_state(S::Queued, wanted), Err(NoMove::NotSent));
            assert_eq!(next_state(S::Sent, wanted), Ok(wanted));
        }
    }

    #[test]
    fn time_and_sender_end_whatever_has_no_end() {
        for current in [S::Queued, S::Sent, S::Acknowledged] {
            assert_eq!(next_state(current, S::Expired), Ok(S::Expired));
            assert_eq!(next_state(current, S::Cancelled), Ok(S::Cancelled));
        }
    }
}
