package server

import "github.com/prometheus/client_golang/prometheus"

// SyncerSample is how a syncer is.
type SyncerSample struct {
	Name            string
	Healthy         bool
	LagSeconds      float64
	Calls, Failures uint64
}

var (
	syncerHealthy  = prometheus.NewDesc("tributary_syncer_healthy", "1 when a syncer, or the link to another site, does its work.", []string{"syncer"}, nil)
	syncerLag      = prometheus.NewDesc("tributary_syncer_lag_seconds", "Everything that happened at the source more than this long ago has been brought over; only of a healthy one.", []string{"syncer"}, nil)
	syncerCalls    = prometheus.NewDesc("tributary_syncer_calls_total", "Calls of a syncer since the start.", []string{"syncer"}, nil)
	syncerFailures = prometheus.NewDesc("tributary_syncer_failures_total", "Calls of a syncer that have ended with an error.", []string{"syncer"}, nil)
)

var syncerDescs = []*prometheus.Desc{syncerHealthy, syncerLag, syncerCalls, syncerFailures}

// collectSyncers gives the metrics of syncers; of several of one name, of the first.
func collectSyncers(syncers []SyncerSample, give func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string)) {
	given := map[string]bool{}
	for _, s := range syncers {
		if given[s.Name] {
			continue
		}
		given[s.Name] = true
		healthy := 0.0
		if s.Healthy {
			healthy = 1
			give(syncerLag, prometheus.GaugeValue, s.LagSeconds, s.Name)
		}
		give(syncerHealthy, prometheus.GaugeValue, healthy, s.Name)
		give(syncerCalls, prometheus.CounterValue, float64(s.Calls), s.Name)
		give(syncerFailures, prometheus.CounterValue, float64(s.Failures), s.Name)
	}
}
