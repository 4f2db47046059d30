package replication

import (
	"log/slog"
	"slices"
	"time"
)

// maxAlarms is how many alarms are kept, and told by a status.
const maxAlarms = 20

// alarm notes alarms, and has them kept: what has caused one may outlive the site's process, and nobody may have looked before.
func (r *run) alarm(alarms []Alarm) {
	for _, a := range alarms {
		r.log.Error("alarm: "+a.Text, slog.String("kind", string(a.Kind)), slog.String("log", a.Log.String()), slog.String("site", a.Site))
	}
	if len(alarms) == 0 {
		return
	}
	r.mu.Lock()
	r.alarms = raised(r.alarms, alarms, time.Now().UTC())
	r.mu.Unlock()
	if r.o.KeepAlarms != nil {
		r.carriers.Go(r.keepAlarms) // a disk that does not answer must not keep the core from being stepped
	}
}

// raised returns alarms with those that were raised at a time behind them, each once, and no more than are kept.
func raised(alarms, more []Alarm, at time.Time) []Alarm {
	for _, a := range more {
		alarms = slices.DeleteFunc(slices.Clone(alarms), func(b Alarm) bool {
			return a.Kind == b.Kind && a.Log == b.Log && a.Site == b.Site && a.Text == b.Text
		})
		a.At = at
		alarms = append(alarms, a)
	}
	return alarms[max(0, len(alarms)-maxAlarms):]
}

// keepAlarms has the alarms kept as they are by now.
func (s *Site) keepAlarms() {
	s.keeping.Lock()
	defer s.keeping.Unlock()
	s.mu.Lock()
	all := slices.Clone(s.alarms)
	s.mu.Unlock()
	if err := s.o.KeepAlarms(all); err != nil {
		s.log.Warn("the alarms are not kept for the next start", slog.Any("error", err))
	}
}
