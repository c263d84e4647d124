//! Calendars and windows: files from other programs and what people write of times.
//!
//! Pure. Invariant: a stretch that was accepted reads back, and answers about any instant in bounded time.

use comber_model::calendar::{
    Freeze, FreezeTime, Moment, Schedule, Stretch, Zone, ZoneChoice, ics,
};
use jiff::Timestamp;

use crate::texts::{again, utf8};

/// An iCalendar file, as `comber freeze` takes one.
pub(crate) fn calendar(bytes: &[u8]) {
    let Some(text) = utf8(bytes) else { return };
    let Ok(times) = ics::parse(text) else { return };
    for FreezeTime { when, .. } in times.iter().take(8) {
        sound(when);
    }
    let freeze = Freeze {
        name: "calendar".parse().expect("a name"),
        reason: "a test".to_owned(),
        zone: ZoneChoice::default(),
        times,
        author: "fuzz".to_owned(),
        created_at: Timestamp::UNIX_EPOCH,
    };
    if freeze.check().is_ok() {
        again(&freeze);
    }
}

/// `Mon..Fri 22:00-05:00`, a zone, a moment.
pub(crate) fn window(bytes: &[u8]) {
    let Some(text) = utf8(bytes) else { return };
    if let Ok(stretch) = text.parse::<Stretch>() {
        sound(&stretch);
    }
    text.parse::<Zone>().ok();
    if let Ok(moment) = text.parse::<Moment>() {
        moment.instant(&Zone::utc());
    }
}

fn sound(stretch: &Stretch) {
    again(stretch);
    assert_eq!(stretch.as_str().parse::<Stretch>().as_ref(), Ok(stretch));
    let stretches = [stretch.clone()];
    let zones = [Zone::utc(), "Europe/Berlin".parse().expect("a zone")];
    for zone in &zones {
        let schedule = Schedule::new(&stretches, zone);
        for at in [0, 1_774_746_000, 1_793_000_000] {
            let at = Timestamp::from_second(at).expect("in range");
            if let Some(span) = schedule.covering(at) {
                assert!(
                    span.from <= at && at < span.until,
                    "{span:?} does not cover {at}"
                );
            }
            if let Some(span) = schedule.next(at) {
                assert!(at < span.until, "{span:?} is over at {at}");
            }
        }
    }
}
