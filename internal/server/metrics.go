package server

import (
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Sample is what /metrics says of the log and of what follows it, taken when asked.
type Sample struct {
	LogEvents, LogStreams uint64
	// LogPosition is the lsn up to which the log is durable.
	LogPosition uint64
	MirrorLag   uint64
	// FeedLag is nil where there is no feed.
	FeedLag *uint64
	// ArchivedEvents are those of LogEvents that are in an archive.
	ArchivedEvents uint64
	Projections    []ProjectionSample
	SagasOpen      map[string]uint64
	// Sites is nil where there are no other sites.
	Sites *SitesSample
	// Syncers are the links to other sites, and those of the domains.
	Syncers []SyncerSample
}

// ProjectionSample is how a projection is.
type ProjectionSample struct {
	Name, Sink string
	Lag        uint64
	LagSeconds float64
	// Rate is in events a second, over the last seconds.
	Rate   float64
	Parked uint64
	Live   bool
}

type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	calls    *prometheus.CounterVec
	callTime *prometheus.HistogramVec
	methods  sync.Map // name of a method → *callMetrics
}

var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

func newMetrics(sample func() Sample) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "http_requests_total", Help: "HTTP requests answered."}, []string{"service", "route", "code"}),
		latency:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "http_request_duration_seconds", Help: "Time to answer an HTTP request.", Buckets: buckets}, []string{"service", "route"}),
		calls:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "grpc_server_handled_total", Help: "gRPC calls answered."}, []string{"grpc_method", "grpc_code"}),
		callTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "grpc_server_handling_seconds", Help: "Time to answer a gRPC call.", Buckets: buckets}, []string{"grpc_method"}),
	}
	m.registry.MustRegister(m.requests, m.latency, m.calls, m.callTime,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if sample != nil {
		m.registry.MustRegister(sampler{sample})
	}
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
	})
}

func (m *metrics) observeHTTP(service, route string, code int, timed bool, took time.Duration) {
	m.requests.WithLabelValues(service, route, strconv.Itoa(code)).Inc()
	if timed {
		m.latency.WithLabelValues(service, route).Observe(took.Seconds())
	}
}

// countStreams shows how many streams are open.
func (m *metrics) countStreams(open *atomic.Int64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "tributary_streams_open", Help: "Streams of both protocols that are open."},
		func() float64 { return float64(open.Load()) }))
}

// callMetrics are those of a method of gRPC. They are looked up once: by their labels, that is a good part of a small call.
type callMetrics struct {
	calls *prometheus.CounterVec // by code
	ok    prometheus.Counter
	took  prometheus.Observer
}

// ofCall returns the metrics of a method. Methods that no service has do not come this far.
func (m *metrics) ofCall(method string) *callMetrics {
	if known, ok := m.methods.Load(method); ok {
		return known.(*callMetrics)
	}
	calls := m.calls.MustCurryWith(prometheus.Labels{"grpc_method": method})
	known, _ := m.methods.LoadOrStore(method, &callMetrics{
		calls: calls, ok: calls.WithLabelValues(codes.OK.String()), took: m.callTime.WithLabelValues(method),
	})
	return known.(*callMetrics)
}

func (c *callMetrics) count(err error) {
	if err == nil {
		c.ok.Inc()
		return
	}
	c.calls.WithLabelValues(status.Code(err).String()).Inc()
}

// sampler makes metrics of a Sample each time it is scraped.
type sampler struct{ sample func() Sample }

var (
	logEvents      = prometheus.NewDesc("tributary_log_events", "Events in the log.", nil, nil)
	logPosition    = prometheus.NewDesc("tributary_log_position", "The lsn up to which the log is durable.", nil, nil)
	logStreams     = prometheus.NewDesc("tributary_log_streams", "Streams that have events.", nil, nil)
	archivedEvents = prometheus.NewDesc("tributary_log_archived_events", "Events of the log that are in an archive.", nil, nil)
	mirrorLag      = prometheus.NewDesc("tributary_mirror_lag_events", "Durable events that are not yet in Kafka.", nil, nil)
	feedLag        = prometheus.NewDesc("tributary_feed_lag_events", "Durable events that are not yet in the feed; only where there is one.", nil, nil)
	projectionLag  = prometheus.NewDesc("tributary_projection_lag_events", "Durable events that are not yet in the read model.", []string{"projection", "sink"}, nil)
	projectionAge  = prometheus.NewDesc("tributary_projection_lag_seconds", "Age of the oldest event that is not yet in the read model.", []string{"projection", "sink"}, nil)
	projectionRate = prometheus.NewDesc("tributary_projection_rate", "Events a second that go into the read model.", []string{"projection", "sink"}, nil)
	parkedEvents   = prometheus.NewDesc("tributary_projection_parked_events", "Events that could not be applied and wait for an operator.", []string{"projection", "sink"}, nil)
	projectionUp   = prometheus.NewDesc("tributary_projection_live", "1 when the read model is live.", []string{"projection", "sink"}, nil)
	sagaOpen       = prometheus.NewDesc("tributary_saga_open", "Saga instances under way.", []string{"saga"}, nil)
)

// Describe lists the metrics, without taking a sample: what is sampled may not be there yet.
func (s sampler) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		logEvents, logPosition, logStreams, archivedEvents, mirrorLag, feedLag, projectionLag, projectionAge, projectionRate, parkedEvents, projectionUp, sagaOpen,
	} {
		ch <- d
	}
	for _, d := range slices.Concat(siteDescs, syncerDescs) {
		ch <- d
	}
}

// Collect takes a sample.
func (s sampler) Collect(ch chan<- prometheus.Metric) {
	v := s.sample()
	give := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		give(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(logEvents, float64(v.LogEvents))
	gauge(logPosition, float64(v.LogPosition))
	gauge(logStreams, float64(v.LogStreams))
	gauge(archivedEvents, float64(v.ArchivedEvents))
	gauge(mirrorLag, float64(v.MirrorLag))
	if v.FeedLag != nil {
		gauge(feedLag, float64(*v.FeedLag))
	}
	v.Sites.collect(gauge)
	collectSyncers(v.Syncers, give)
	for _, p := range v.Projections {
		gauge(projectionLag, float64(p.Lag), p.Name, p.Sink)
		gauge(projectionAge, p.LagSeconds, p.Name, p.Sink)
		gauge(projectionRate, p.Rate, p.Name, p.Sink)
		gauge(parkedEvents, float64(p.Parked), p.Name, p.Sink)
		live := 0.0
		if p.Live {
			live = 1
		}
		gauge(projectionUp, live, p.Name, p.Sink)
	}
	for name, n := range v.SagasOpen {
		gauge(sagaOpen, float64(n), name)
	}
}
