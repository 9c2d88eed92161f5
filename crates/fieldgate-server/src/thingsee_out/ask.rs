//! What a Thingsee reader asks for: `?device=&group=&tsmId=&since=`, read off its address.

use std::collections::BTreeSet;

use axum::http::Uri;
use fieldgate_core::{
    access::Principal,
    dialect::Since,
    fault::{Code, Fault},
    id::DeviceId,
    topic::Filter,
};
use fieldgate_dialects::thingsee::Ids;

use super::follow::{Following, filters_of, subscribe};
use crate::{
    fabric::Shared,
    rest::query::{bad, once, parameters, time_of, unknown},
    subscriptions::StreamAsk,
};

const KNOWN: &str = "device, group, tsmId and since";
/// What everybody follows who names nobody.
const EVERY: [&str; 2] = ["devices/+/telemetry", "devices/+/state/reported"];

/// What an address says.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    devices: BTreeSet<DeviceId>,
    groups: BTreeSet<String>,
    ids: Ids,
    since: Option<Since>,
}

/// Reads an address.
pub(super) fn read(uri: &Uri) -> Result<Asked, Fault> {
    let (mut devices, mut groups) = (BTreeSet::new(), BTreeSet::new());
    let (mut ids, mut since) = (Vec::new(), None);
    for (name, value) in parameters(uri)? {
        match name.as_str() {
            "device" => {
                devices.insert(value.parse().map_err(|error| bad(format!("device: {error}")))?);
            }
            "group" if value.is_empty() => return Err(bad("group is the id of a group")),
            "group" => {
                groups.insert(value);
            }
            "tsmId" => {
                ids.push(value.parse().map_err(|_| bad("tsmId is a number, as in 12100"))?);
            }
            "since" => once(&mut since, &name, beginning(&value)?)?,
            // It told who asks.
            "ticket" => (),
            _ => return Err(unknown(&name, KNOWN)),
        }
    }
    let ids = Ids::new(ids).ok_or_else(|| bad("tsmId is 1 or more, and given 8 times at most"))?;
    Ok(Asked { devices, groups, ids, since })
}

fn beginning(value: &str) -> Result<Since, Fault> {
    if value == "all" {
        return Ok(Since::All);
    }
    let after = value.parse().ok().map(Since::After);
    after.or_else(|| time_of(value).map(Since::Time)).ok_or_else(|| {
        bad("since is all, a position epoch:seq, or an arrival time: Unix ms or RFC 3339")
    })
}

impl Asked {
    /// What it follows, where this principal may follow all of that.
    pub(super) fn resolve(
        self,
        shared: &Shared,
        principal: &Principal,
    ) -> Result<(Ids, StreamAsk), Fault> {
        let may = |filters: &[Filter]| filters.iter().all(|f| principal.may_subscribe(f));
        let every: Vec<Filter> = EVERY.iter().filter_map(|text| text.parse().ok()).collect();
        let follows_all = self.devices.is_empty() && self.groups.is_empty();
        let mut filters = if follows_all { every.clone() } else { Vec::new() };
        let mut following = Following::new(self.groups, self.devices);
        if !follows_all {
            let followed = following.devices(shared, principal);
            let refused = following.named().find(|device| !may(&filters_of(device)));
            if let Some(device) = refused {
                return Err(no_right(&format!("devices/{device}")));
            }
            for group in following.groups() {
                let members = shared.state.group(&principal.tenant, group).map(|g| g.devices);
                let members = members.filter(|members| !members.is_empty());
                // One without devices says nothing to decide by, like one that is not there.
                let all = members.as_ref().map_or_else(
                    || may(&every),
                    |members| members.iter().all(|device| may(&filters_of(device))),
                );
                if !all {
                    return Err(no_right("the devices of this group"));
                }
                if shared.state.group(&principal.tenant, group).is_none() {
                    let text = "there is no group of one of these names";
                    return Err(Fault::new(Code::NotFound, text));
                }
            }
            following.check_size(shared, followed.len())?;
            filters = followed.iter().flat_map(filters_of).collect();
            following.begin(followed);
        }
        if let Some(filter) = filters.iter().find(|filter| !principal.may_subscribe(filter)) {
            return Err(no_right(filter.as_str()));
        }
        let subscribes = filters.into_iter().map(subscribe).collect();
        let following = following.moves().then(|| Box::new(following));
        Ok((self.ids, StreamAsk { subscribes, since: self.since, following }))
    }
}

fn no_right(what: &str) -> Fault {
    let text = format!(
        "no right to subscribe to {what}: it takes telemetry and state/reported of each device"
    );
    Fault::new(Code::NotAllowed, text)
}

#[cfg(test)]
mod tests {
    use fieldgate_core::id::UnixMs;

    use super::*;

    fn asked(query: &str) -> Result<Asked, String> {
        read(&format!("/thingsee?{query}").parse().unwrap())
            .map_err(|fault| fault.message.into_owned())
    }

    #[test]
    fn what_is_repeated_counts_once_and_the_credential_is_none_of_ours() {
        let query = "device=a&device=b&device=a&group=g&tsmId=12100&tsmId=1110&token=x&ticket=y";
        let Asked { devices, groups, ids, since } = asked(query).unwrap();
        let devices: Vec<&str> = devices.iter().map(DeviceId::as_str).collect();
        assert_eq!((devices, groups.len(), since), (vec!["a", "b"], 1, None));
        assert_eq!(Some(ids), Ids::new([1_110, 12_100]));
        let since = |query| asked(query).unwrap().since;
        assert_eq!(since("since=all"), Some(Since::All));
        assert_eq!(since("since=1:5"), Some(Since::After("1:5".parse().unwrap())));
        assert_eq!(since("since=1634567890123"), Some(Since::Time(UnixMs(1_634_567_890_123))));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_it_takes() {
        for (query, told) in [
            ("device=a/b", "device: "),
            ("group=", "group is the id"),
            ("tsmId=x", "tsmId is a number"),
            ("tsmId=0", "tsmId is 1 or more"),
            ("tsmId=1&tsmId=2&tsmId=3&tsmId=4&tsmId=5&tsmId=6&tsmId=7&tsmId=8&tsmId=9", "8 times"),
            ("since=now", "since is all"),
            ("since=all&since=all", "since is given twice"),
            ("tsmid=1", "there is no parameter \"tsmid\": this address takes device, group"),
        ] {
            let refused = asked(query).unwrap_err();
            assert!(refused.contains(told), "{query}: {refused}");
        }
    }
}
