// The seed contract as far as centrifuge can speak it: the HTTP routes are the same, the token of a channel is its name, and
// clients use centrifuge's own JSON protocol at /connection/websocket.
//
// Written as its users would write it. With --tuned it spends as little memory on a connection as the library lets it.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/http"
	"runtime"
	"strings"
	"syscall"

	"github.com/centrifugal/centrifuge"
)

func main() {
	address := flag.String("address", "127.0.0.1", "where to listen")
	port := flag.String("port", "", "where to listen")
	authKey := flag.String("auth-key", "", "what publishers must know")
	tuned := flag.Bool("tuned", false, "spend little memory on a connection")
	flag.Parse()
	endWithParent()

	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		reply := centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{}}
		if *tuned {
			reply.QueueInitialCap = 1
		}
		return reply, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
			answer(centrifuge.SubscribeReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}

	http.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, transport(*tuned)))
	http.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("POST /channel/", permitted(*authKey, func(answer http.ResponseWriter, request *http.Request) {
		channel := strings.TrimPrefix(request.URL.Path, "/channel/")
		succeed(answer, map[string]any{"success": true, "token": channel})
	}))
	http.HandleFunc("POST /message/", permitted(*authKey, func(answer http.ResponseWriter, request *http.Request) {
		var body struct {
			Message json.RawMessage `json:"message"`
		}
		text, err := io.ReadAll(request.Body)
		if err == nil {
			err = json.Unmarshal(text, &body)
		}
		if err == nil {
			_, err = node.Publish(strings.TrimPrefix(request.URL.Path, "/message/"), body.Message)
		}
		if err != nil {
			http.Error(answer, err.Error(), http.StatusBadRequest)
			return
		}
		succeed(answer, map[string]any{"success": true})
	}))
	log.Fatal(http.ListenAndServe(*address+":"+*port, nil))
}

func transport(tuned bool) centrifuge.WebsocketConfig {
	if !tuned {
		return centrifuge.WebsocketConfig{}
	}
	return centrifuge.WebsocketConfig{
		ReadBufferSize:             256,
		UseWriteBufferPool:         true,
		ProcessCommandsOffReadLoop: true,
	}
}

func permitted(authKey string, serve http.HandlerFunc) http.HandlerFunc {
	return func(answer http.ResponseWriter, request *http.Request) {
		if request.Header.Get("Authorization") != authKey {
			http.Error(answer, "wrong key", http.StatusForbidden)
			return
		}
		serve(answer, request)
	}
}

func succeed(answer http.ResponseWriter, body map[string]any) {
	answer.Header().Set("Content-Type", "application/json")
	// Fails only if the publisher has gone.
	_ = json.NewEncoder(answer).Encode(body)
}

// endWithParent has the kernel end this process with the benchmark that started it.
func endWithParent() {
	runtime.LockOSThread()
	_, _, failed := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
	if failed != 0 {
		log.Fatal(failed)
	}
}
