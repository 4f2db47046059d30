package reliability

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	plant    = flag.Bool("planted", false, "build the store with each planted bug, and see whether the reliability tests notice")
	plantAll = flag.Bool("planted.all", false, "run all tests on each planted bug, in place of stopping at the first that notices")
)

const root = "../.."

// noticer is a row of tests that notice bugs in files of some names, the quick ones first.
type noticer struct {
	file  *regexp.Regexp
	pkg   string
	tests []string
}

// noticers are what a planted bug is shown to: the first row that the name of its first file matches.
var noticers = []noticer{
	{regexp.MustCompile(`^commands/escrow/`), "commands/escrow", []string{"TestNothingIsSoldTwice", "TestSales"}},
	{regexp.MustCompile(`^commands/`), "commands", []string{
		"TestAnEventThatStandsBefore", "TestContextOfMixedStreams", "TestHomeKeepsOneBranch", "TestDomainVoidsWhatDoesNotHold",
		"TestManualWaitsForAPerson", "TestSitesAgree", "TestSitesAgreeOnDisk",
	}},
	{regexp.MustCompile(`^commerce/inventory/`), "commerce/inventory", []string{
		"TestSitesSellTheirOwn", "TestSoldAtTwoSitesApart", "TestReservationsAreSettledWhereTheyWereMade", "TestOneReservationAtTwoSites",
	}},
	{regexp.MustCompile(`^commerce/order/`), "commerce/order", []string{"TestMovedAtTwoSites"}},
	{regexp.MustCompile(`^replication/(accord|registrar|terms|others|deep)\.go$`), "replication", []string{
		"TestWordsBind", "TestCellsThatDiffer", "TestForeignSiteIsRefused", "TestNothingHomedIsWrittenTwice", "TestDifferencesAreFound",
	}},
	{regexp.MustCompile(`^replication/(clock|reading)\.go$`), "replication", []string{
		"TestReadingsHoldTheTruth", "TestLateHeartbeats", "TestJumpsAreAgreedOn", "TestClocksOfTwo", "TestClocksOfThree", "TestStartWaitsForAnother",
		"TestJumpsBeyondAreNotFollowed", "TestFollowedClockIsFoundAgain", "TestMessageTellsThatAClockHasMoved", "TestSilenceSetsNoClockRight",
	}},
	{regexp.MustCompile(`^replication/(comparer|models)\.go$`), "replication", []string{"TestPassesFindAndMend", "TestModelsAreComparedAtOneMoment"}},
	{regexp.MustCompile(`^replication/`), "replication", []string{"TestPeerIsTheOtherSitesDisk", "TestNobodyToWaitFor", "TestMoreCountsAfterAll"}},
	{regexp.MustCompile(`^eventstore/durable/`), "eventstore/durable", []string{"TestAppendWaitsForItsClass", "TestRefusedBeforeItIsRecorded"}},
	{regexp.MustCompile(`^node/`), "node", []string{"TestDropWaitsForFollowers", "TestDropWaitsForEachFollower"}},
	{regexp.MustCompile(`archive|/dropped\.go$|/read_stream\.go$`), "eventstore/pebblestore", []string{
		"TestArchivedLogReadsTheSame", "TestArchiveThatRots", "TestSeamOfArchiveAndLog", "TestReadWhileArchivedBlocksGo", "TestStartAfterAKillNeedsNoArchive",
		"TestArchivePlaceThatIsAway", "TestSegmentThatIsPutBack", "TestSystemEventsAreKeptNear", "TestDroppedEvents", "TestDroppedStreamInMemory",
		"TestDropThatFails", "TestPowerLossWhileArchiving", "TestPowerLossWhileDropping", "TestConformanceWhileArchiving",
	}},
	{regexp.MustCompile(`/(refill|mend|repair)\.go$`), "eventstore/pebblestore", []string{
		"TestNothingUnprovenIsPutIn", "TestForgedEventsAreMended", "TestLostRangesComeBackFromOthers", "TestScrubFindsAndRepairsRottenTables", "TestPowerLossWhileRefilling",
	}},
	{regexp.MustCompile(``), "eventstore/pebblestore", []string{
		"TestMarkersComeLast", "TestNothingUnsyncedShows", "TestConfigurations", "TestPowerLoss", "TestLinearizable", "TestLinearizableKilled", "TestFailPoints", "TestKill9", "TestMutations", "TestPowerLossInABatchOfManyBlocks",
	}},
}

// TestPlanted keeps the planted bugs applicable and, with -planted, shows each to the short forms of the reliability tests:
// one of them has to fail. The sources stay as they are, for the compiler is given the changed ones as an overlay.
func TestPlanted(t *testing.T) {
	paths, err := filepath.Glob("testdata/planted/*.txt")
	if err != nil || len(paths) < 40 {
		t.Fatalf("found the planted bugs %v, %v; want at least 40", paths, err)
	}
	for _, path := range paths {
		bug := ReadPlanted(t, path)
		t.Run(bug.Name, func(t *testing.T) {
			if !*plant {
				bug.Changed(t, root)
				return
			}
			caught := show(t, &bug)
			result := Result{Test: PlantedTest, What: bug.What, Extra: map[string]any{"caught by": strings.Join(caught, ", ")}}
			if len(caught) == 0 {
				result.Violations = 1
				t.Errorf("no test noticed that %s", bug.What)
			}
			result.Print(t)
		})
	}
}

// show builds the tests that a bug is shown to with it, and returns those that fail.
func show(t *testing.T, b *Planted) (caught []string) {
	t.Helper()
	to := noticers[slices.IndexFunc(noticers, func(row noticer) bool { return row.file.MatchString(b.changes[0].file) })]
	binary := b.Build(t, root, to.pkg)
	for _, test := range to.tests {
		run := exec.Command(binary, "-test.run", "^"+test+"$", "-test.timeout", "10m")
		run.Dir = filepath.Join(root, to.pkg)
		run.Env = append(os.Environ(), Collect+"=") // what a broken store shows goes on no record
		began := time.Now()
		out, err := run.CombinedOutput()
		if err == nil {
			continue
		}
		if bytes.Contains(out, []byte("panic: test timed out")) { // as on a machine that is starved
			t.Logf("%s took too long, which is not taken for noticing", test)
			continue
		}
		caught = append(caught, test)
		t.Logf("%s noticed after %s:\n%s", test, time.Since(began).Round(time.Millisecond), firstLines(out))
		if !*plantAll {
			break
		}
	}
	return caught
}

// firstLines returns the beginning of what a test said.
func firstLines(out []byte) string {
	lines := strings.SplitN(string(out), "\n", 7)
	for i, line := range lines {
		if len(line) > 300 {
			lines[i] = fmt.Sprintf("%s… (%d bytes)", line[:300], len(line))
		}
	}
	return strings.Join(lines[:min(len(lines), 6)], "\n")
}
