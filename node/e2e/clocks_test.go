package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/internal/drill"
	"github.com/tributary-es/tributary/internal/reliability"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// clockFile is what buildWithClocks has a process read its clock's error from, in the folder that it runs in: nanoseconds.
const clockFile = "clock"

// buildWithClocks builds the program with the wall clock of each process off by what its clockFile says at that moment. The standard
// library's time.Now is another then; the program is as it is.
func buildWithClocks(t *testing.T) (program string) {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(strings.TrimSpace(string(out)), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	const now, imports = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n", "\t\"math/bits\"\n"
	text := string(source)
	if strings.Count(text, now) != 1 || strings.Count(text, imports) != 1 {
		t.Fatalf("time.Now is not as it was in %s: the test has to be brought in line", original)
	}
	text = strings.Replace(text, now, now+"\tsec, nsec = displaced(sec, nsec)\n", 1)
	text = strings.Replace(text, imports, imports+"\t\"sync/atomic\"\n", 1) + displacement
	return buildOverlaid(t, map[string]string{original: text})
}

// displacement is added to package time. The file is read beside Now, which is called where nothing may be waited for.
const displacement = `
var displacedBy atomic.Int64

func init() {
	go func() {
		for ; ; Sleep(5 * Millisecond) {
			by, sign := int64(0), int64(1)
			if fd, err := open("` + clockFile + `"); err == nil {
				var text [24]byte
				n, _ := read(fd, text[:])
				closefd(fd)
				for i := range max(n, 0) {
					switch c := text[i]; {
					case c == '-':
						sign = -1
					case c >= '0' && c <= '9':
						by = by*10 + int64(c-'0')
					}
				}
			}
			displacedBy.Store(sign * by)
		}
	}()
}

func displaced(sec int64, nsec int32) (int64, int32) {
	n := sec*1e9 + int64(nsec) + displacedBy.Load()
	return n / 1e9, int32(n % 1e9)
}
`

// setClock puts the clock of a site's server off by so much.
func setClock(t *testing.T, site *drill.Site, by time.Duration) {
	t.Helper()
	path := filepath.Join(filepath.Dir(site.Data), "server", clockFile)
	if err := os.WriteFile(path+".new", []byte(strconv.FormatInt(int64(by), 10)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// modeOf returns how a site says that it stands.
func modeOf(t *testing.T, site *drill.Site) string {
	t.Helper()
	st, err := sitesv1.NewSitesClient(site.Conn()).GetSites(t.Context(), &sitesv1.GetSitesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return st.GetMode()
}

// startsWrong has the server of a site end, and start with its clock off by so much. It returns when that is said; taken tells when the site
// takes commands.
func startsWrong(t *testing.T, site *drill.Site, by time.Duration) (taken <-chan error) {
	t.Helper()
	site.Server().Kill()
	setClock(t, site, by)
	started := make(chan error, 1)
	go func() { started <- site.Server().Restart(t.Context()) }()
	eventually(t, fmt.Sprintf("started with its clock off by %s, the site says so", by), func() bool {
		st, err := sitesv1.NewSitesClient(site.Conn()).GetSites(t.Context(), &sitesv1.GetSitesRequest{})
		return err == nil && st.GetMode() == "fenced-clock" && st.GetClock() != ""
	})
	return started
}

// headOf returns how many events a site has recorded.
func headOf(t *testing.T, site *drill.Site) uint64 {
	t.Helper()
	st, err := sitesv1.NewSitesClient(site.Conn()).GetSites(t.Context(), &sitesv1.GetSitesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return st.GetHead()
}

// speak sets the language of a customer at a site; language returns it as the site has it.
func speak(ctx context.Context, site *drill.Site, key, customer, language string) error {
	ctx = metadata.AppendToOutgoingContext(ctx, "idempotency-key", key)
	_, err := commerceapiv1.NewCommandServiceClient(site.Conn()).ChangeProfile(ctx, &commerceapiv1.ChangeProfileRequest{CustomerId: customer, Language: &language})
	return err
}

func language(t *testing.T, site *drill.Site, customer string) string {
	t.Helper()
	p, err := commerceapiv1.NewQueryServiceClient(site.Conn()).GetProfile(t.Context(), &commerceapiv1.GetProfileRequest{CustomerId: customer})
	if err != nil {
		t.Fatal(err)
	}
	return p.GetLanguage()
}

// chain has a value set at one site after the other, each time by one who has seen the one before, and returns how many were set, how
// many the site with the wrong clock has refused, and at how many sites the last one has not won. Before each step it is told of it.
func chain(t *testing.T, sites *drill.Sites, wrong *drill.Site, ledger *drill.Ledger, customer string, step func(i int)) (set, refused, lost int) {
	t.Helper()
	last := ""
	for i := range 6 {
		step(i)
		at := sites.All()[(i+1)%3]
		eventually(t, fmt.Sprintf("%s: site %s has seen %q", customer, at.Name, last), func() bool { return language(t, at, customer) == last })
		key, value := fmt.Sprintf("speak/%s/%d", customer, i), fmt.Sprintf("l-%d", i)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := speak(ctx, at, key, customer, value)
		cancel()
		if err != nil && at == wrong {
			refused++
			if grpcstatus.Code(err) != codes.DeadlineExceeded { // of that nothing is known
				ledger.Refuse(key, at.Name)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		ledger.Acknowledge(key, at.Name)
		last = value
		set++
	}
	if err := sites.Converge(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	for _, at := range sites.All() {
		if got := language(t, at, customer); got != last {
			lost++
			t.Errorf("%s: at site %s it is %q, and %q was set by one who had seen that", customer, at.Name, got, last)
		}
	}
	return set, refused, lost
}

// The clock of one of three sites goes wrong, by little and by much, drifts and jumps back, and is wrong when its server starts. Whoever has
// seen a value and sets another is the later one at every site, whatever the clocks say, and what was set is seen everywhere at once. A site
// whose clock is far off says so within 2 s; one that has started with a clock that is ahead records nothing. It is T12 of
// docs/reliability.md, and shows R24 and R25.
func TestClocks(t *testing.T) {
	if !*long {
		t.Skip("with -long: the program is built anew, from the standard library on, with another clock")
	}
	sites := openSites(t, drill.Options{Program: buildWithClocks(t), Names: []string{"bj", "sh", "sz"}, NoClickHouse: true})
	ledger, wrong := drill.NewLedger(), sites.All()[1]
	var noticed []time.Duration
	set, refused, lost := 0, 0, 0
	run := func(what string, step func(int)) {
		t.Helper()
		s, r, l := chain(t, sites, wrong, ledger, what, step)
		set, refused, lost = set+s, refused+r, lost+l
	}
	settled := func(int) {}
	run("right", settled)
	offs := []time.Duration{
		100 * time.Millisecond, -100 * time.Millisecond, 300 * time.Millisecond, -300 * time.Millisecond,
		2 * time.Second, -2 * time.Second, time.Minute, -time.Minute, time.Hour, -time.Hour,
	}
	for _, by := range offs {
		setClock(t, wrong, by)
		if by.Abs() > 500*time.Millisecond {
			begun := time.Now()
			eventually(t, fmt.Sprintf("the site says that its clock is off by %s", by), func() bool { return modeOf(t, wrong) == "fenced-clock" })
			noticed = append(noticed, time.Since(begun))
		}
		run(by.String(), settled)
		setClock(t, wrong, 0)
		eventually(t, "the site's clock is right again", func() bool { return modeOf(t, wrong) == "normal" })
		run("right after "+by.String(), settled)
	}
	run("drift", func(i int) { setClock(t, wrong, time.Duration(i)*150*time.Millisecond) })
	run("jumps back", func(i int) { setClock(t, wrong, time.Duration(i%2)*700*time.Millisecond) })
	setClock(t, wrong, 0)
	eventually(t, "the site's clock is right again", func() bool { return modeOf(t, wrong) == "normal" })
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		taken := startsWrong(t, wrong, by)
		before := headOf(t, wrong)
		if by > 0 {
			err := speak(t.Context(), wrong, "ahead", "ahead", "l")
			if grpcstatus.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "ahead of those of the other sites") {
				t.Errorf("a site that is %s ahead answers a command with %v", by, err)
			}
			ledger.Refuse("ahead", wrong.Name)
		}
		run("started off by "+by.String(), settled)
		if after := headOf(t, wrong); by > 0 && after != before {
			t.Errorf("a site that is %s ahead has recorded %d events", by, after-before)
		}
		setClock(t, wrong, 0)
		eventually(t, "the site's clock is right again", func() bool { return modeOf(t, wrong) == "normal" })
		if err := <-taken; err != nil {
			t.Fatal(err)
		}
		run("right after a start off by "+by.String(), settled)
	}
	c := alike(t, sites, ledger)
	p50, p99 := reliability.Percentiles(noticed)
	reliability.Result{
		Test: "T12", What: "the clock of one of three sites wrong by up to 1 h, while it runs and at its start, as processes", Cycles: len(offs) + 4, Acked: c.Acknowledged,
		Lost: c.Lost + lost, Duplicated: c.Duplicated, Phantom: c.Phantom, P50: p50, P99: p99, Extra: map[string]any{"causal updates": set, "refused": refused},
	}.Print(t)
	if p99 > 2000 {
		t.Errorf("it took %.0f ms to notice a clock that is far off", p99)
	}
}
