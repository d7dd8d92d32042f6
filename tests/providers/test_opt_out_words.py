"""What people write to get no more messages, or messages again; and what only looks like it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifyctl.providers.twilio.opt_out_words import LONGEST, START_WORDS, STOP_WORDS, Wish, wish_of

STOP_ENGLISH = r"""
stop|quit|end|revoke|opt out|cancel|unsubscribe
stopall|stop all|optout|Opt out.|OPT-OUT|opt_out|opt me out|I want to opt out|I would like to unsubscribe|un-subscribe
please stop|Stop, please|PLEASE CANCEL|stop it|stop now|ok stop|Stop!!!|STOP STOP STOP|STOP, UNSUBSCRIBE|stop/end
Stop texting me!|please stop sending me these messages|stop messages|STOP SMS|cancel texts|end all alerts
don't text me|DON’T TEXT ME AGAIN|do not contact me anymore|never call me|no more texts|I don't want these messages
remove me|Remove me from your list|take me off this list|delete my number|remove me from your texting list
I revoke my consent|I withdraw my consent|leave me alone|unsubscribe me|unsuscribe|stopp|stooop|sotp
stop sending these|stop all communication|Stop marketing|cancel all|end all|cease and desist|STOPSTOP|sttop|sopt
opt out of all|unsubscribe from all|unsubscribe this number|remove me from these texts|remove number|no texts|no SMS
I no longer want to receive texts|I no longer wish to receive text messages|I don't want any more marketing messages
No thanks, stop|no. stop|STOP to end|STOP2END|stop 2 quit|Text STOP|reply "STOP"
STOP PLEASE STOP|OPT OUT STOP|stop and unsubscribe|STOP or CANCEL|opted out|unsubscribe sms|end service|stop service
cancel my reminders|STOP 36111|stop 1|st0p|wrong number|Sorry, wrong number|wrong number stop
You have the wrong number. STOP|No thanks. Stop|not interested|Not interested, stop|no longer interested|go away
fuck off|stop calling and texting me|I want to stop receiving messages|I no longer want these
I don't want to receive this|I don't want this anymore|I no longer want this
revoke consent to be called|I revoke my consent to receive messages
STOP\nSent from Outlook for iOS|STOP\n\nGet Outlook for Android|Stop\n-- \nJohn Smith\nAcme Inc.
STOP\n\nSent from my Galaxy
stop - Sent from my Samsung Galaxy A5|ARRET\nEnvoyé de mon iPhone|Stopp\nVon meinem iPhone gesendet
Stop. Leave me alone.|Stop texting me. Remove me from your list!|STOP\n\nSent from my iPhone|Stop. Thank you
"""
STOP_FRENCH = """
ARRET|ARRÊT|Arrêt.|arrete|ARRETT|arrêtez|Arrêtez s'il vous plaît|désabonner|DESABONNEMENT|me désabonner|STOP SMS SVP
désinscrire|annuler|fin|plus de SMS|Ne m’envoyez plus de messages|ne me contactez plus|résilier
Je ne veux plus recevoir de SMS|je ne veux plus de messages|Ne souhaite plus recevoir vos textos|arrêter les SMS
Arrête de m'écrire|stop aux SMS|supprimez-moi de la liste|Merci de me désinscrire|Je souhaite me désinscrire
merci d'arrêter|Merci de ne plus m'envoyer de SMS|Terminer|STOP au 36180|non merci, stop|messages stop svp
"""
STOP_SPANISH = """
ALTO|Parar|PARE|basta|BAJA|dar de baja|darme de baja, por favor|CANCELAR|detener|fin|salir|no más|NO MAS
no más mensajes|No me envíen más mensajes|no me escriban|desuscribirme
No quiero más mensajes|ya no quiero recibir sus mensajes|no quiero sms|no me mande mensajes|Dejen de enviarme mensajes
BAJA SMS|cancelar mensajes|ALTO MENSAJES|eliminar|dar baja|no gracias, alto|número equivocado
para|Para, por favor|stop para|deja de mandarme sms|Darse de baja|elimíname|bórrame|por favor, no molestar
"""
STOP_GERMAN = """
STOPP|Ende|abmelden|Bitte abmelden|ABMELDUNG|abbestellen|Kündigen|KUENDIGEN|Widerruf|Keine SMS mehr!|aufhören
Keine SMS mehr senden|Bitte senden Sie mir keine Nachrichten mehr|schick mir keine SMS mehr|keine Werbung
Ich möchte keine SMS mehr erhalten|ich will keine weiteren Nachrichten bekommen
Hört auf|Löschen Sie mich aus dem Verteiler
SMS stoppen|Nachrichten abbestellen|Newsletter abbestellen|Keine Erinnerungen mehr|Nein danke, stop|kein Interesse
Ich möchte das nicht mehr|Ich möchte keine SMS|falsche Nummer
bitte keine Nachrichten mehr|Ich möchte keine Nachrichten mehr|ICH MOECHTE MICH ABMELDEN|hören Sie auf
"""
STOP_ELSEWHERE = """
Non voglio più ricevere messaggi|smettila|pare de me enviar mensagens|stop ermee|Ik wil geen SMS meer ontvangen
disiscrivimi|SAIR|descadastrar|não quero mais|afmelden|uitschrijven|avsluta|lopeta|wypisz|iptal|İPTAL
basta sms|annulla iscrizione|non voglio ricevere SMS|quero sair|não quero receber|Pare de mandar SMS|Stop alstublieft
avslutt|sluta|frameld|STOP TAK|poista|STOP KIITOS|rezygnacja|usuń|stop proszę|leiratkozom|RET|iptal et|odjava|stop molim
СТОП СМС|отпишите меня|не пишите мне|СТОП, пожалуйста|відписка|спри|отказ
הסר אותי|להסרה|قف|الغاء|停止发送|拒收|やめて|중단|berhenti|UNREG|HỦY|huy|dừng|ยกเลิก|หยุด|itigil|बंद करो
DỪNG|*Dừng*|dừng sms|СТОП|стоп!|отписаться|ΣΤΟΠ
הסר|توقف|退订|停止|配信停止|ストップ|ｽﾄｯﾌﾟ|수신거부|TD
"""
HOWEVER_WRITTEN = [
    "ＳＴＯＰ", "ｏｐｔ　ｏｕｔ", "𝗦𝗧𝗢𝗣", "ⓈⓉⓄⓅ",
    "S.T.O.P.", "s t o p", "ARRE\u0302T", "S\u00adTOP", "opt\u00a0out", "opt–out",
    "“STOP”", "'stop'", '"Stop"', "«STOP»", "(stop)", "*STOP*", "„Stopp“", "¡Alto!", "stop…", " stop\r\n", "\tSTOP",
    "STOP 🙏", "STOP 👍🏽", "🛑", "🛑 STOP 🛑", "STOP\u200b", "\ufeffSTOP", "STOP\ufe0f",
]  # fmt: skip
START = """
start|Start.|UNSTOP|yes|YES!|“Yes”|please start|start again|ＳＴＡＲＴ
opt in|OPT-IN|optin|opt me back in|I want to opt in
subscribe|resubscribe|re-subscribe|Yes, start|start texting me again|alta|darme de alta|Anmelden|reprendre
s'abonner|старт
"""
NEITHER = r"""
Don't stop|please don't stop|I will not stop|Stop? No|non-stop|stop by at 5|Can you stop by?|I can't stop laughing
bus stop|stop the press|What does STOP do?|reply STOP to opt out
no, don't stop|stop no|no cancel|cancel all meetings|stop to end of line|text me|no message yet
je ne veux plus de pain|no quiero|deja de llover|keine Zeit mehr|I no longer want the table|remove me from the meeting
how do I opt out?|stop start|Yes. Cancel|yes, cancel it
The end|end of month|When does it end?|weekend|I quit smoking|cancel my appointment|cancel my subscription
Cancel the 3pm|unsubscribe my colleague|revoke my licence|opt out of the meeting|remove the table|delete it
take me home|call me|text me please|all messages|message and text|no thanks|service please|cancel service
Cancel my service|Service kündigen|annuler service|Avboka|the wrong day
wrong number of seats|stop at 36|interested|not interested in the meeting
I don't want this|Ich möchte das nicht|Peru|Dung|đúng|dung dung|dung sms
para mensajes|Para notificações|para recordatorios
I am not interested in the blue one|-- \nStop & Shop
yes, thanks|yes I'm coming|no|NO|ok|thanks|fine|Fine.|HELP|INFO|help me|start at 9|start over|resume attached
बूंद|หยด|解約|deactivate
oui|sí|ja|si|para mañana|alta calidad|baja tensión|Ende gut, alles gut|fin de semana|arrêt de bus|la fin du mois
Wann ist Ende?|Keine Ahnung|stop\nby at five|never|don't|s top|never mind|more|42|?|🙏|👍|✋🏽 hi
"""


def each(listed: str) -> list[str]:
    return [phrase.replace(r"\n", "\n") for line in listed.strip().splitlines() for phrase in line.split("|")]


STOPS = [
    phrase
    for listed in (STOP_ENGLISH, STOP_FRENCH, STOP_SPANISH, STOP_GERMAN, STOP_ELSEWHERE)
    for phrase in each(listed)
] + HOWEVER_WRITTEN


@pytest.mark.parametrize("text", [*STOPS, *sorted(STOP_WORDS)])
def test_whoever_wants_no_more_is_understood(text: str) -> None:
    assert wish_of(text) is Wish.STOP


@pytest.mark.parametrize("text", [*each(START), *sorted(START_WORDS)])
def test_whoever_wants_messages_again_is_understood(text: str) -> None:
    assert wish_of(text) is Wish.START


@pytest.mark.parametrize("text", each(NEITHER))
def test_what_says_something_else_asks_for_neither(text: str) -> None:
    assert wish_of(text) is None


at_leisure = settings(deadline=None)
AROUND = st.text(st.sampled_from(" \t\n\r.!?…,;:-–—'\"“”„«»()[]*_~#🙏👍\u200b\ufeff\u00a0"), max_size=8)


@at_leisure
@given(st.sampled_from(STOPS), AROUND, AROUND, st.sampled_from([str.upper, str.lower, str.title, str]))
def test_capitals_and_what_stands_around_it_make_no_difference(text: str, before: str, after: str, way: type) -> None:
    assert wish_of(before + way(text) + after) is Wish.STOP


WORDS = ["appointment", "tomorrow", "we", "will", "meet", "brother", "tennis", "at", "five", "the", "Termin"]


@at_leisure
@given(
    st.sampled_from([text for text in (*STOPS, *each(START)) if "\n" not in text]),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4),
    st.booleans(),
)
def test_within_a_sentence_about_something_else_it_counts_for_nothing(
    text: str, others: list[str], is_first: bool
) -> None:
    parts = [text, *others] if is_first else [*others, text]
    assert wish_of(" ".join(parts)) is None


@at_leisure
@given(st.text(max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    assert wish_of(text) in (None, *Wish)


def test_what_is_longer_than_any_message_is_none() -> None:
    assert wish_of("stop" + " " * (LONGEST - 4)) is Wish.STOP
    assert wish_of("stop" + " " * (LONGEST - 3)) is None
    assert wish_of("stop" + " " * 96 + "by at five") is None
