package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/internal/server"
)

// TestStreamOfSeveralSites: the events of a stream that two sites wrote are listed each once, in canonical order, whatever
// their versions are, also page by page and as of a position; those that are void say so.
func TestStreamOfSeveralSites(t *testing.T) {
	second := eventstore.Dot{Log: eventstore.LogID{Site: "other", Incarnation: 1}, Seq: 2}
	r := start(t, server.Options{}, &fakes{void: func(_ context.Context, id eventstore.StreamID) (map[eventstore.Dot]string, error) {
		return map[eventstore.Dot]string{second: id.ID + " was there"}, nil
	}})
	long := hlc.New(func() time.Time { return time.UnixMilli(1000) })
	other := memstore.New(memstore.Options{LogID: second.Log, Clock: long})
	t.Cleanup(func() {
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		_, err := other.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("thing", "1"), Events: []eventstore.Event{{Type: "thing.happened.v1", Encoding: eventstore.JSON, Payload: []byte(`{}`)}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	r.fill(t, 3) // 1-1 to 1-3, after those of the other site
	var foreign []eventstore.Recorded
	for e, err := range other.ReadLog(t.Context(), second.Log, 0) {
		if err != nil {
			t.Fatal(err)
		}
		foreign = append(foreign, e)
	}
	if _, err := r.store.Receive(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"":                                 "[1-4 1 1-5 2 void: 1 was there 1-1 1 1-2 2 1-3 3] 5 0",
		"limit=2":                          "[1-4 1 1-5 2 void: 1 was there] 5 3",
		"limit=2&from_version=3":           "[1-1 1 1-2 2] 5 5",
		"limit=2&from_version=5":           "[1-3 3] 5 0",
		"backwards=true&limit=2":           "[1-3 3 1-2 2] 5 3",
		"backwards=true&from_version=3":    "[1-1 1 1-5 2 void: 1 was there 1-4 1] 5 0",
		"as_of=1-2":                        "[1-1 1 1-2 2] 2 0",
		"as_of=1-4":                        "[1-4 1 1-1 1 1-2 2 1-3 3] 4 0",
		"as_of=1-4&limit=2":                "[1-4 1 1-1 1] 4 4",
		"as_of=1-4&limit=2&from_version=4": "[1-2 2 1-3 3] 4 0",
		"as_of=1-4&backwards=true":         "[1-3 3 1-2 2 1-1 1 1-4 1] 4 0",
	} {
		a := r.do(t, http.MethodGet, "/v1/streams/thing/1?"+query, "")
		var got struct {
			Events []struct {
				Position, Version string
				Voided            bool
				VoidReason        string `json:"void_reason"`
			}
			Version         string
			NextFromVersion string `json:"next_from_version"`
		}
		if err := json.Unmarshal(a.body, &got); err != nil || a.status != http.StatusOK {
			t.Fatalf("HTTP %d: %s, %v", a.status, a.body, err)
		}
		events := []string{}
		for _, e := range got.Events {
			text := e.Position + " " + e.Version
			if e.Voided {
				text += " void: " + e.VoidReason
			}
			events = append(events, text)
		}
		if text := fmt.Sprint(events, " ", got.Version, " ", got.NextFromVersion); text != want {
			t.Errorf("%s:\n got %s\nwant %s", query, text, want)
		}
	}
}
