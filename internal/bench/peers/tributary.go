package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tributary-es/tributary/client"
	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

var tributaryKind = Kind{Name: "tributary", Check: "expected version, and a request id in every append", Start: startTributary}

// tributaryProgram is the server; `make build` makes it.
var tributaryProgram = "../../../bin/tributary"

// tributaryPeer is a Tributary server with the read models it cannot be without, spoken to through the store API, an
// append a call.
type tributaryPeer struct {
	server *child
	conns  []*grpc.ClientConn
	stores []storev1.EventStoreClient // the clients share them
	ids    atomic.Uint64
}

const tributaryConnections = 4

func startTributary(ctx context.Context, dir string) (Peer, string, error) {
	program, err := filepath.Abs(tributaryProgram)
	if err != nil {
		return nil, "", fmt.Errorf("find the server: %w", err)
	}
	version, err := exec.CommandContext(ctx, program, "version").Output()
	if err != nil {
		return nil, "", missing("make build (%v)", err)
	}
	http, err := freePort()
	if err != nil {
		return nil, "", err
	}
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	server, err := startChild(ctx, dir, port, nil, program, "serve", "--data", filepath.Join(dir, "data"), "--kafka", "off", "--clickhouse", "off",
		"--http", loopback(http), "--grpc", loopback(port))
	if err != nil {
		return nil, "", err
	}
	p := &tributaryPeer{server: server}
	for range tributaryConnections {
		conn, err := grpc.NewClient(loopback(port), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
		if err != nil {
			return nil, "", errors.Join(fmt.Errorf("connect to tributary: %w", err), p.Close())
		}
		p.conns, p.stores = append(p.conns, conn), append(p.stores, storev1.NewEventStoreClient(conn))
	}
	return p, strings.TrimPrefix(strings.TrimSpace(string(version)), "tributary "), nil
}

func (p *tributaryPeer) store(stream string) storev1.EventStoreClient {
	return p.stores[int(stringHash(stream)%tributaryConnections)]
}

func (p *tributaryPeer) Append(ctx context.Context, stream string, at Place, payloads [][]byte) (Place, error) {
	events := make([]*storev1.NewEvent, len(payloads))
	for i, b := range payloads {
		events[i] = &storev1.NewEvent{Type: "bench.happened.v1", Payload: b, ContentType: "application/protobuf"}
	}
	_, err := p.store(stream).Append(ctx, &storev1.AppendRequest{
		RequestId: strconv.FormatUint(p.ids.Add(1), 10),
		Appends: []*storev1.StreamAppend{{
			Category: "bench", Id: stream, Expect: &storev1.StreamAppend_Version{Version: at.Version}, Events: events,
		}},
	})
	if err != nil {
		return at, fmt.Errorf("append to tributary: %w", err)
	}
	return Place{Version: at.Version + uint64(len(payloads))}, nil
}

func (p *tributaryPeer) Load(ctx context.Context, stream string) (int, error) {
	answers, err := p.store(stream).ReadStream(ctx, &storev1.ReadStreamRequest{Category: "bench", Id: stream})
	return countEvents(answers, err)
}

func (p *tributaryPeer) ReadAll(ctx context.Context) (int, error) {
	answers, err := p.stores[0].ReadAll(ctx, &storev1.ReadAllRequest{Categories: []string{"bench"}, Frames: true})
	return countEvents(answers, err)
}

func countEvents(answers grpc.ServerStreamingClient[storev1.ReadResponse], err error) (int, error) {
	if err != nil {
		return 0, fmt.Errorf("read from tributary: %w", err)
	}
	for n := 0; ; {
		answer, err := answers.Recv()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("read from tributary: %w", err)
		}
		n += len(answer.GetEvents()) + len(answer.GetFrames().GetLsns())
	}
}

func (p *tributaryPeer) Close() error {
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(append(errs, p.server.stop())...)
}

var tributaryClientKind = Kind{
	Name: "tributary-client", Check: "expected version, and a request id in every append; all appends through one session of the Go client",
	Start: startTributaryClient,
}

// tributaryClient is the same server, appended to through its Go client.
type tributaryClient struct {
	*tributaryPeer
	client *client.Client
}

func startTributaryClient(ctx context.Context, dir string) (Peer, string, error) {
	started, version, err := startTributary(ctx, dir)
	if err != nil {
		return nil, "", err
	}
	p := &tributaryClient{tributaryPeer: started.(*tributaryPeer)}
	if p.client, err = client.Dial(ctx, p.conns[0].Target(), nil); err != nil {
		return nil, "", errors.Join(fmt.Errorf("connect to tributary: %w", err), p.tributaryPeer.Close())
	}
	return p, version, nil
}

func (p *tributaryClient) Append(ctx context.Context, stream string, at Place, payloads [][]byte) (Place, error) {
	events := make([]eventstore.Event, len(payloads))
	for i, b := range payloads {
		events[i] = eventstore.Event{Type: "bench.happened.v1", Payload: b}
	}
	_, err := p.client.Append(ctx, eventstore.Request{
		ID: strconv.FormatUint(p.ids.Add(1), 10),
		Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("bench", stream), Expect: eventstore.Exactly(at.Version), Events: events,
		}},
	})
	if err != nil {
		return at, fmt.Errorf("append to tributary: %w", err)
	}
	return Place{Version: at.Version + uint64(len(payloads))}, nil
}

func (p *tributaryClient) Close() error {
	return errors.Join(p.client.Close(), p.tributaryPeer.Close())
}
