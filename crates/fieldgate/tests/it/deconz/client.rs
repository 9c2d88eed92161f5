//! pydeconz, the library of Home Assistant, as a process that is told line by line what to do.

use std::{
    collections::VecDeque,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{Script, python};

/// Evaluates each line of its stdin, and tells what comes of it; tells what the library was told once
/// the library has taken it, and what broke in it.
const SCRIPT: &str = r#"
import ast, asyncio, inspect, json, sys
import aiohttp
from pydeconz import DeconzSession
from pydeconz.interfaces.lights import CoverAction, LightAlert, LightEffect, LightFanSpeed
from pydeconz.models.sensor.thermostat import ThermostatMode, ThermostatPreset
from pydeconz.utils import delete_api_key, get_bridge_id

def say(*words):
    print(*words, flush=True)

async def main(host, port, key):
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: say('broken', context))
    async with aiohttp.ClientSession() as http:
        session = DeconzSession(http, host, int(port), key or None, lambda is_up: say('link', is_up))
        session.events.subscribe(lambda event: say('event', json.dumps(event.data)))
        async def acquire():
            session.api_key = await session.get_api_key()
            return session.api_key
        names = {**globals(), 'session': session, 'http': http, 'acquire': acquire}
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            try:
                code = compile(line.strip(), 'line', 'eval', ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                value = eval(code, names)
                if inspect.isawaitable(value):
                    value = await value
                say('=', json.dumps(value, default=str))
            except Exception as error:
                say('!', type(error).__name__, error)

asyncio.run(main(*sys.argv[1:]))
"#;

/// The library at work.
pub(super) struct Client {
    script: Script,
    /// What it was told and nobody looked at yet.
    events: VecDeque<Value>,
    /// Whether its push socket is there, as it said and nobody looked at yet.
    links: VecDeque<bool>,
}

impl Client {
    /// Starts it for a gateway, with a key or none; nothing where the library is not installed.
    pub(super) fn start(address: &str, key: &str) -> Option<Self> {
        python().map(|python| Self::run(&python, address, key))
    }

    fn run(python: &Path, address: &str, key: &str) -> Self {
        let (host, port) = address.rsplit_once(':').unwrap();
        let mut command = Command::new(python);
        command.args(["-c", SCRIPT, host, port, key]).stdin(Stdio::piped());
        let script = Script::start(&mut command);
        Self { script, events: VecDeque::new(), links: VecDeque::new() }
    }

    /// Reads everything and starts to listen.
    pub(super) fn follow(&mut self) {
        self.ask("await session.refresh_state()");
        self.ask("session.start()");
        assert!(self.link(), "its push socket is there");
    }

    /// One line of it; what it was told is kept for later.
    fn line(&mut self) -> Option<String> {
        let line = self.script.line();
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match word {
            "event" => self.events.push_back(serde_json::from_str(rest).unwrap()),
            "link" => self.links.push_back(rest == "True"),
            "broken" => panic!("the library broke: {rest}"),
            _ => return Some(line),
        }
        None
    }

    /// What an expression comes to, or which error it raises.
    fn answer(&mut self, expression: &str) -> Result<Value, String> {
        self.script.say(expression);
        loop {
            let Some(line) = self.line() else { continue };
            return match line.split_once(' ') {
                Some(("=", value)) => Ok(serde_json::from_str(value).unwrap()),
                Some(("!", error)) => Err(error.to_owned()),
                _ => panic!("{line}"),
            };
        }
    }

    #[track_caller]
    pub(super) fn ask(&mut self, expression: &str) -> Value {
        match self.answer(expression) {
            Ok(value) => value,
            Err(error) => panic!("{expression}: {error}"),
        }
    }

    #[track_caller]
    pub(super) fn refused(&mut self, expression: &str) -> String {
        match self.answer(expression) {
            Ok(value) => panic!("{expression}: {value}"),
            Err(error) => error,
        }
    }

    /// The next thing that it was told.
    pub(super) fn event(&mut self) -> Value {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let line = self.line();
            assert!(line.is_none(), "{line:?}");
        }
    }

    /// The next thing that it was told of this list and number; others are passed over.
    pub(super) fn event_of(&mut self, list: &str, id: &str) -> Value {
        loop {
            let event = self.event();
            if event["r"] == list && event["id"] == id {
                return event;
            }
        }
    }

    /// Everything that it was told by now that nobody looked at.
    pub(super) fn told(&mut self) -> Vec<Value> {
        self.ask("None");
        self.events.drain(..).collect()
    }

    /// Whether its push socket is there, when it says so next.
    pub(super) fn link(&mut self) -> bool {
        loop {
            if let Some(is_up) = self.links.pop_front() {
                return is_up;
            }
            let line = self.line();
            assert!(line.is_none(), "{line:?}");
        }
    }
}
