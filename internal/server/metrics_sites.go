package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// SitesSample is how a site stands with the others.
type SitesSample struct {
	Mode     string
	Writable bool
	// Blocked says that something homed is not written because sites differ in what has to be the same.
	Blocked     bool
	Differences []SiteDifference
	// ClockAheadSeconds is how far the site's clock is ahead of the others' at least, ClockJumpSeconds how far its machine's has jumped and is
	// not followed, FutureSeconds how far in the future the log ends.
	ClockAheadSeconds, ClockJumpSeconds, FutureSeconds float64

	Logs  []SiteLogSample
	Peers []PeerSample
	// Comparison is nil before the first has ended.
	Comparison *ComparisonSample

	// Bound: what is homed is written under a lease, which lasts LeaseLeft yet. Takeovers is how many are on record.
	Bound     bool
	LeaseLeft float64
	Takeovers int
}

// ComparisonSample is the last comparison of the site's store with those of others: how long ago it ended, how many events it compared,
// in how many places the two differ still; and how many such places were put right since the start.
type ComparisonSample struct {
	Age      time.Duration
	Events   uint64
	Left     int
	Repaired uint64
}

// SiteDifference is something that has to be the same at two sites and is not.
type SiteDifference struct{ Site, What string }

// SiteLogSample is how far a log of another site is here: how many events are known to be missing, and how old the last
// one was when it came.
type SiteLogSample struct {
	Log        string
	Behind     uint64
	LagSeconds float64
}

// PeerSample is how another site is, how many events of this one it has not, and how far its clock is ahead.
type PeerSample struct {
	Site   string
	Up     bool
	Behind uint64

	AheadSeconds float64
}

var (
	siteMode     = prometheus.NewDesc("tributary_site_mode", "1 for the mode that the site is in.", []string{"mode"}, nil)
	siteWritable = prometheus.NewDesc("tributary_site_writable", "1 when the site takes commands.", nil, nil)
	siteBlocked  = prometheus.NewDesc("tributary_site_write_blocked", "1 when something homed is not written because sites differ in what has to be the same.", nil, nil)
	siteDiffers  = prometheus.NewDesc("tributary_site_differs", "1 for what has to be the same at another site and is not.", []string{"site", "what"}, nil)
	siteLogLag   = prometheus.NewDesc("tributary_site_log_missing_events", "Events of a log of another site that are known and not here.", []string{"log"}, nil)
	siteLogAge   = prometheus.NewDesc("tributary_site_log_lag_seconds", "How old the last event of a log was when it had been received; it grows while events are missing.", []string{"log"}, nil)
	sitePeerUp   = prometheus.NewDesc("tributary_site_peer_up", "1 when another site is heard.", []string{"site"}, nil)
	siteAhead    = prometheus.NewDesc("tributary_site_clock_ahead_seconds", "How far the site's clock is ahead of the median of all at least, or behind when negative; 0 when it is not known to be off.", nil, nil)
	siteJump     = prometheus.NewDesc("tributary_site_clock_jump_seconds", "How far the machine's time of day has jumped in a way that the site does not follow.", nil, nil)
	siteFuture   = prometheus.NewDesc("tributary_site_log_future_seconds", "How far in the future the last event is: what is recorded waits at other sites until then.", nil, nil)
	sitePeerTime = prometheus.NewDesc("tributary_site_peer_clock_ahead_seconds", "How far the clock of another site is ahead of this one's.", []string{"site"}, nil)
	siteBound    = prometheus.NewDesc("tributary_site_lease_bound", "1 when what is homed is written under a lease, and taken over from sites that are gone.", nil, nil)
	siteLease    = prometheus.NewDesc("tributary_site_lease_left_seconds", "How long the lease lasts yet under which what is homed is written; 0: it is not.", nil, nil)
	siteTakeover = prometheus.NewDesc("tributary_site_takeovers_recorded", "How often the cells of a site that was gone were taken over, as far as is on record here.", nil, nil)
	sitePeerLag  = prometheus.NewDesc("tributary_site_peer_missing_events", "Events of this site that another has not.", []string{"site"}, nil)
)

var (
	siteCompareAge      = prometheus.NewDesc("tributary_site_compared_seconds_ago", "How long ago the last comparison of the store with those of other sites ended.", nil, nil)
	siteCompareEvents   = prometheus.NewDesc("tributary_site_compared_events", "How many events it compared.", nil, nil)
	siteCompareLeft     = prometheus.NewDesc("tributary_site_compare_differences", "Places in which the store and another one differ still.", nil, nil)
	siteCompareRepaired = prometheus.NewDesc("tributary_site_compare_repaired", "Places that were put right since the start.", nil, nil)
)

var siteDescs = []*prometheus.Desc{
	siteMode, siteWritable, siteBlocked, siteDiffers, siteLogLag, siteLogAge, siteAhead, siteJump, siteFuture, sitePeerUp, sitePeerTime, sitePeerLag,
	siteBound, siteLease, siteTakeover,
	siteCompareAge, siteCompareEvents, siteCompareLeft, siteCompareRepaired,
}

// collect gives the metrics of a site that has others.
func (v *SitesSample) collect(gauge func(d *prometheus.Desc, value float64, labels ...string)) {
	if v == nil {
		return
	}
	truth := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	gauge(siteMode, 1, v.Mode)
	gauge(siteWritable, truth(v.Writable))
	gauge(siteBlocked, truth(v.Blocked))
	gauge(siteAhead, v.ClockAheadSeconds)
	gauge(siteJump, v.ClockJumpSeconds)
	gauge(siteFuture, v.FutureSeconds)
	gauge(siteBound, truth(v.Bound))
	gauge(siteLease, v.LeaseLeft)
	gauge(siteTakeover, float64(v.Takeovers))
	told := map[SiteDifference]bool{}
	for _, d := range v.Differences {
		if !told[d] { // of one thing there may be several
			told[d] = true
			gauge(siteDiffers, 1, d.Site, d.What)
		}
	}
	for _, l := range v.Logs {
		gauge(siteLogLag, float64(l.Behind), l.Log)
		gauge(siteLogAge, l.LagSeconds, l.Log)
	}
	for _, p := range v.Peers {
		gauge(sitePeerUp, truth(p.Up), p.Site)
		gauge(sitePeerTime, p.AheadSeconds, p.Site)
		gauge(sitePeerLag, float64(p.Behind), p.Site)
	}
	if c := v.Comparison; c != nil {
		gauge(siteCompareAge, c.Age.Seconds())
		gauge(siteCompareEvents, float64(c.Events))
		gauge(siteCompareLeft, float64(c.Left))
		gauge(siteCompareRepaired, float64(c.Repaired))
	}
}
