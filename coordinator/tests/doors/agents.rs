//! Agents at the doors: who gets in, with what, and who does not.

use std::time::Duration;

use rehull::{
    agents::{Answer, Silence, Whom},
    authority::{AGENT_LIFE, Authority},
};
use rehull_proto::v1::{
    Beat, Collect, EnrolRequest, FromAgent, Hello, Intent, ListAgentsRequest, RenewRequest, Report,
    StatusRequest, ToAgent, TokenRequest,
    agent_link_client::AgentLinkClient,
    enrolment_client::EnrolmentClient,
    from_agent::Message,
    intent::{RevokeAgent, Wish},
    operator_client::OperatorClient,
    to_agent::Order,
};
use rehull_shared::ids::Generation;
use tokio::{io::AsyncReadExt, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::house::{certificate_request, coordinator, coordinator_with};

fn whom() -> Whom {
    ("prod".parse().unwrap(), "worker1".parse().unwrap())
}

type Open = (mpsc::Sender<FromAgent>, Result<Streaming<ToAgent>, Status>);

async fn open(agent: &mut AgentLinkClient<Channel>, hello: Option<Hello>) -> Open {
    let (sender, messages) = mpsc::channel(8);
    if let Some(hello) = hello {
        sender.send(FromAgent { message: Some(Message::Hello(hello)) }).await.unwrap();
    }
    let stream = agent.open(ReceiverStream::new(messages)).await;
    (sender, stream.map(|answer| answer.into_inner()))
}

fn hello() -> Option<Hello> {
    Some(Hello { protocol: 1, agent_version: "test".to_owned(), ..Hello::default() })
}

/// Waits until something is so; fails after 10 s.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come about within 10 s");
}

/// Why the coordinator has ended a stream, which it must within 10 s.
async fn end_of(stream: &mut Streaming<ToAgent>) -> Status {
    let end = tokio::time::timeout(Duration::from_secs(10), stream.message()).await;
    end.expect("the stream was not ended").expect_err("an order came instead of an end")
}

#[tokio::test]
async fn a_host_with_a_token_enrols_links_and_renews() {
    let coordinator = coordinator().await;
    let enrolled = coordinator.enrol(&coordinator.token().await).await.unwrap();
    assert_eq!(enrolled.0.generation, 1);
    let mut agent = coordinator.agent(&enrolled).await;
    let (messages, stream) = open(&mut agent, hello()).await;
    let _stream = stream.unwrap();
    let beat = Beat { kubelet_running: true, ..Beat::default() };
    messages.send(FromAgent { message: Some(Message::Beat(beat)) }).await.unwrap();
    let agents = coordinator.agents.clone();
    until("its beat", || agents.connected().get(&whom()).is_some_and(|link| link.beat.is_some()))
        .await;
    let (certificate_request, _) = certificate_request();
    let renewed = agent.renew(RenewRequest { certificate_request }).await.unwrap().into_inner();
    assert_eq!(renewed.generation, 1);
    let mut operator = coordinator.operator().await;
    let list = operator.list_agents(ListAgentsRequest::default()).await.unwrap().into_inner();
    assert!(list.agents[0].connected && list.agents[0].kubelet_running, "{list:?}");
    drop(messages);
    until("its end", || agents.connected().is_empty()).await;
}

/// TLS is done in both cases: what counts is whether a certificate was shown.
#[tokio::test]
async fn who_shows_no_certificate_has_to_go_and_an_agent_stays() {
    let life = Duration::from_secs(1);
    let coordinator = coordinator_with(life).await;
    let enrolled = coordinator.enrol(&coordinator.token().await).await.unwrap();
    let mut agent = coordinator.agent(&enrolled).await;
    let (messages, stream) = open(&mut agent, hello()).await;
    let mut orders = stream.unwrap();
    let mut stranger = coordinator.dial_plainly().await;
    let mut buffer = vec![0; 4096];
    let end = async { while stranger.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(Duration::from_secs(10), end).await.expect("the stranger stays");
    tokio::time::sleep(life).await;
    let ended = tokio::time::timeout(Duration::from_millis(100), orders.message()).await;
    assert!(ended.is_err(), "the agent had to go, too: {ended:?}");
    drop(messages);
}

#[tokio::test]
async fn a_token_is_good_for_one_host_and_only_once() {
    let coordinator = coordinator().await;
    let token = coordinator.token().await;
    let wrong = coordinator.enrol("0123").await.err().unwrap();
    assert_eq!(wrong.code(), Code::PermissionDenied, "{wrong}");
    let refused = |part: &str| {
        let refused = coordinator.agents.refused();
        refused.get(&whom()).is_some_and(|one| one.from == "127.0.0.1" && one.why.contains(part))
    };
    assert!(refused("this is not its token"), "operators are told who is refused");
    coordinator.enrol(&token).await.unwrap();
    assert_eq!(coordinator.agents.refused().len(), 0, "somebody is there");
    let again = coordinator.enrol(&token).await.err().unwrap();
    assert_eq!(again.code(), Code::PermissionDenied, "{again}");
    assert!(refused("it has been used"));
    coordinator.enrol_as("stranger", &token).await.err().unwrap();
    assert_eq!(coordinator.agents.refused().len(), 1, "strangers are not remembered");
}

#[tokio::test]
async fn a_bad_request_does_not_use_the_token_up() {
    let coordinator = coordinator().await;
    let token = coordinator.token().await;
    let request = EnrolRequest {
        cluster: "prod".to_owned(),
        node: "worker1".to_owned(),
        token: token.clone(),
        certificate_request: vec![1, 2, 3],
        ..EnrolRequest::default()
    };
    let mut client = EnrolmentClient::new(coordinator.dial(None).await.unwrap());
    let refused = client.enrol(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    coordinator.enrol(&token).await.unwrap();
}

#[tokio::test]
async fn an_earlier_generation_is_thrown_out_and_stays_out() {
    let coordinator = coordinator().await;
    let old = coordinator.enrol(&coordinator.token().await).await.unwrap();
    let mut old_agent = coordinator.agent(&old).await;
    let (_messages, stream) = open(&mut old_agent, hello()).await;
    let mut stream = stream.unwrap();
    let agents = coordinator.agents.clone();
    until("its link", || !agents.connected().is_empty()).await;

    let new = coordinator.enrol(&coordinator.token().await).await.unwrap();
    assert_eq!(new.0.generation, 2);
    let end = end_of(&mut stream).await;
    assert_eq!(end.code(), Code::PermissionDenied, "{end}");
    let (_messages, again) = open(&mut old_agent, hello()).await;
    assert_eq!(again.unwrap_err().code(), Code::PermissionDenied);
    let (certificate_request, _) = certificate_request();
    let renewed = old_agent.renew(RenewRequest { certificate_request }).await;
    assert_eq!(renewed.unwrap_err().code(), Code::PermissionDenied);

    let mut new_agent = coordinator.agent(&new).await;
    let (_messages, stream) = open(&mut new_agent, hello()).await;
    let _stream = stream.unwrap();
    until("the new link", || {
        agents.connected().get(&whom()).is_some_and(|link| link.generation == Generation(2))
    })
    .await;
}

#[tokio::test]
async fn a_revoked_agent_is_thrown_out_and_needs_a_new_token() {
    let coordinator = coordinator().await;
    let mut operator = coordinator.operator().await;
    let revoke = |node: &str| Intent {
        cluster: "prod".to_owned(),
        by: "not me".to_owned(),
        wish: Some(Wish::RevokeAgent(RevokeAgent { node: node.to_owned() })),
    };
    let unknown = operator.submit(revoke("worker1")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::FailedPrecondition, "{unknown}");

    let enrolled = coordinator.enrol(&coordinator.token().await).await.unwrap();
    let mut agent = coordinator.agent(&enrolled).await;
    let (_messages, stream) = open(&mut agent, hello()).await;
    let mut stream = stream.unwrap();
    let agents = coordinator.agents.clone();
    until("its link", || !agents.connected().is_empty()).await;
    let invitation = coordinator.token().await;
    assert!(operator.submit(revoke("worker1")).await.unwrap().into_inner().sequence > 0);

    let end = end_of(&mut stream).await;
    assert_eq!(end.code(), Code::PermissionDenied, "{end}");
    assert!(end.message().contains("was revoked"), "{end}");
    assert!(agents.connected().is_empty());
    let (_messages, again) = open(&mut agent, hello()).await;
    assert_eq!(again.unwrap_err().code(), Code::PermissionDenied);
    let (certificate_request, _) = certificate_request();
    let renewed = agent.renew(RenewRequest { certificate_request }).await;
    assert_eq!(renewed.unwrap_err().code(), Code::PermissionDenied);
    let list = operator.list_agents(ListAgentsRequest::default()).await.unwrap().into_inner();
    assert!(list.agents[0].revoked && !list.agents[0].connected, "{list:?}");
    let dead = coordinator.enrol(&invitation).await.err().unwrap();
    assert_eq!(dead.code(), Code::PermissionDenied, "the invitation is dead with it");
    let same = operator.submit(revoke("worker1")).await.unwrap().into_inner();
    assert_eq!(same.sequence, 0, "{same:?}");

    let anew = coordinator.enrol(&coordinator.token().await).await.unwrap();
    assert_eq!(anew.0.generation, 2);
    let mut agent = coordinator.agent(&anew).await;
    let (_messages, stream) = open(&mut agent, hello()).await;
    let _stream = stream.unwrap();
    until("the new link", || !agents.connected().is_empty()).await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_opens_nothing() {
    let coordinator = coordinator().await;
    let foreign = Authority::create().unwrap();
    let (request, key) = certificate_request();
    let pem = foreign.agent(&request, &whom(), Generation(1), AGENT_LIFE).unwrap();
    let dialled = coordinator.dial(Some((pem, key.serialize_pem()))).await;
    let refused = match dialled {
        Err(refused) => refused,
        // With TLS 1.3 the client hears of it with its first call.
        Ok(channel) => {
            let mut client = EnrolmentClient::new(channel);
            client.enrol(EnrolRequest::default()).await.unwrap_err()
        }
    };
    assert!(matches!(refused.code(), Code::Unavailable | Code::Unknown), "{refused}");
}

#[tokio::test]
async fn agents_and_strangers_are_no_operators() {
    let coordinator = coordinator().await;
    let enrolled = coordinator.enrol(&coordinator.token().await).await.unwrap();
    let agent = (enrolled.0.certificate.clone(), enrolled.1.serialize_pem());
    for client in [None, Some(agent)] {
        let mut stranger = OperatorClient::new(coordinator.dial(client).await.unwrap());
        let refused = stranger.status(StatusRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert!(stranger.issue_token(TokenRequest::default()).await.is_err());
    }
    let (_messages, stranger) =
        open(&mut AgentLinkClient::new(coordinator.dial(None).await.unwrap()), hello()).await;
    assert_eq!(stranger.unwrap_err().code(), Code::Unauthenticated);
    let pair = coordinator.authority.operator("anna").unwrap();
    let channel = coordinator.dial(Some((pair.certificate, pair.key))).await.unwrap();
    OperatorClient::new(channel).status(StatusRequest::default()).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_has_obeyed_a_later_epoch_is_not_served() {
    let coordinator = coordinator().await;
    let enrolled = coordinator.enrol(&coordinator.token().await).await.unwrap();
    let mut agent = coordinator.agent(&enrolled).await;
    let late = Some(Hello { protocol: 1, epoch: 99, ..Hello::default() });
    let (_messages, stream) = open(&mut agent, late).await;
    let end = end_of(&mut stream.unwrap()).await;
    assert_eq!(end.code(), Code::FailedPrecondition, "{end}");
    assert!(coordinator.agents.connected().is_empty());
}

#[tokio::test]
async fn a_token_of_one_node_makes_nobody_another() {
    let coordinator = coordinator().await;
    let token = coordinator.token().await;
    for other in ["worker2", "master1"] {
        let refused = coordinator.enrol_as(other, &token).await.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert!(refused.message().contains(other), "{refused}");
    }
    let pattern = coordinator.enrol_as("worker*", &token).await.err().unwrap();
    assert_eq!(pattern.code(), Code::InvalidArgument, "{pattern}");
    // It was not used up by them, and the name in the certificate is not the request's.
    let enrolled = coordinator.enrol(&token).await.unwrap();
    let mut agent = coordinator.agent(&enrolled).await;
    let (_messages, _stream) = open(&mut agent, hello()).await;
    let agents = coordinator.agents.clone();
    until("its link", || !agents.connected().is_empty()).await;
    assert!(agents.connected().keys().all(|linked| *linked == whom()));
}

fn collect(nonce: &str) -> ToAgent {
    let order = Order::Collect(Collect { nonce: nonce.to_owned(), ..Collect::default() });
    ToAgent { epoch: 1, generation: 1, order: Some(order), ..ToAgent::default() }
}

fn report(nonce: &str, bytes: usize) -> FromAgent {
    let identity = rehull_proto::v1::Identity {
        hostname: "x".repeat(bytes),
        ..rehull_proto::v1::Identity::default()
    };
    let report = Report { nonce: nonce.to_owned(), identity: Some(identity), ..Report::default() };
    FromAgent { message: Some(Message::Report(report)) }
}

#[tokio::test]
async fn an_answer_to_another_round_answers_nothing() {
    let coordinator = coordinator().await;
    let enrolled = coordinator.enrol(&coordinator.token().await).await.unwrap();
    let mut agent = coordinator.agent(&enrolled).await;
    let (messages, stream) = open(&mut agent, hello()).await;
    let mut stream = stream.unwrap();
    let agents = coordinator.agents.clone();
    until("its link", || !agents.connected().is_empty()).await;
    let asked = tokio::spawn({
        let agents = agents.clone();
        async move { agents.ask(&whom(), collect("round-7"), Duration::from_secs(10)).await }
    });
    stream.message().await.unwrap().unwrap();
    for nonce in ["round-6", "", "round-70"] {
        messages.send(report(nonce, 1)).await.unwrap();
    }
    messages.send(report("round-7", 5)).await.unwrap();
    let Ok(Answer::Report(heard)) = asked.await.unwrap() else { panic!("no report came") };
    assert_eq!((heard.nonce.as_str(), heard.identity.unwrap().hostname.len()), ("round-7", 5));
    // Said in advance it is not kept for the round that asks it.
    messages.send(report("round-8", 1)).await.unwrap();
    let beat = Beat { sequence: 8, ..Beat::default() };
    messages.send(FromAgent { message: Some(Message::Beat(beat)) }).await.unwrap();
    until("the beat behind it", || {
        let links = agents.connected();
        links.get(&whom()).and_then(|link| link.beat.as_ref()).is_some_and(|(_, b)| b.sequence == 8)
    })
    .await;
    let waited = agents.ask(&whom(), collect("round-8"), Duration::from_millis(300)).await;
    assert!(matches!(waited, Err(Silence::TimedOut(_))), "{waited:?}");
    let other = ToAgent { generation: 2, ..collect("round-9") };
    let other = agents.ask(&whom(), other, Duration::from_secs(10)).await;
    assert!(matches!(other, Err(Silence::OtherGeneration(..))), "{other:?}");
}

/// The coordinator goes on as if nothing had happened.
async fn is_well(coordinator: &crate::house::Coordinator) {
    coordinator.operator().await.status(StatusRequest::default()).await.unwrap();
    let enrolled = coordinator.enrol(&coordinator.token().await).await.unwrap();
    let mut agent = coordinator.agent(&enrolled).await;
    let (_messages, stream) = open(&mut agent, hello()).await;
    let _stream = stream.unwrap();
    let agents = coordinator.agents.clone();
    let newest = Generation(enrolled.0.generation);
    until("a link after it", || {
        agents.connected().get(&whom()).is_some_and(|link| link.generation == newest)
    })
    .await;
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_its_connection_and_nothing_else() {
    let coordinator = coordinator().await;
    let token = coordinator.token().await;
    let mut stranger = EnrolmentClient::new(coordinator.dial(None).await.unwrap());
    let request = EnrolRequest {
        cluster: "prod".to_owned(),
        node: "worker1".to_owned(),
        token: token.clone(),
        certificate_request: vec![0; 8 * 1024 * 1024],
        ..EnrolRequest::default()
    };
    let refused = stranger.enrol(request).await.unwrap_err();
    assert!(refused.message().contains("too large"), "{refused:?}");

    let enrolled = coordinator.enrol(&token).await.unwrap();
    let mut agent = coordinator.agent(&enrolled).await;
    let (messages, stream) = open(&mut agent, hello()).await;
    let mut stream = stream.unwrap();
    messages.send(report("whatever", 8 * 1024 * 1024)).await.unwrap();
    let end = end_of(&mut stream).await;
    assert!(end.message().contains("too large"), "{end:?}");
    let agents = coordinator.agents.clone();
    until("the end of the link", || agents.connected().is_empty()).await;
    is_well(&coordinator).await;
}

#[tokio::test]
async fn an_agent_that_speaks_without_end_is_cut_off() {
    let coordinator = coordinator().await;
    for large in [1, 200 * 1024] {
        let enrolled = coordinator.enrol(&coordinator.token().await).await.unwrap();
        let mut agent = coordinator.agent(&enrolled).await;
        let (messages, stream) = open(&mut agent, hello()).await;
        let mut stream = stream.unwrap();
        let chatter = tokio::spawn(async move {
            let mut said = 0_u32;
            while messages.send(report("nobody asked", large)).await.is_ok() {
                said += 1;
            }
            said
        });
        let end = end_of(&mut stream).await;
        assert_eq!(end.code(), Code::ResourceExhausted, "{end:?}");
        drop(stream);
        chatter.await.unwrap();
        let agents = coordinator.agents.clone();
        until("the end of the link", || agents.connected().is_empty()).await;
    }
    is_well(&coordinator).await;
}
